"""From a text to its token ids: the tokenizer's tokens, and those that it adds around a text.

What a tokenizer adds is learned once, when a model is loaded. Tokens before a text stay, under the
BOS rule. Tokens after it (EOS, [SEP]) are left out: a text would end where its answer begins.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from inactive_heads.errors import Notice, UserError
from inactive_heads.third_party import explained

N_PROBES = 12
"""The number of words of a tokenizer's own vocabulary that it is tried on."""


@dataclass(frozen=True)
class TextEncoder:
    """A function from a text to its token ids, under a BOS rule.

    A text that already opens with BOS (or EOS, if the tokenizer has no BOS), as chat templates may
    write it, gets no second one. This is the rule of lm-evaluation-harness.

        encode = TextEncoder.of(tokenizer, "auto", "gpt2")
        encode("Hello")  # [15496]

    Attributes:
        tokenizer: the model's; None if it has none.
        name: the model's name, used in error messages.
        before: the tokens put before a text.
        openings: a text that opens with one of these gets no tokens before it.
        rule: the BOS rule, and what the tokenizer adds that is no BOS; saved with results.
    """

    tokenizer: PreTrainedTokenizerBase | None
    name: str
    before: tuple[int, ...]
    openings: tuple[str, ...]
    rule: str

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase | None, bos: str, name: str) -> TextEncoder:
        """The encoder of a model's tokenizer.

        Args:
            tokenizer: the model's; without one, texts are refused.
            bos: "auto" is the tokenizer's own rule, "off" adds no tokens, "on" puts BOS first if
                the tokenizer does not.
            name: the model's name, used in messages.

        Returns:
            The encoder. A warning names the tokens that the tokenizer adds beside BOS.

        Raises:
            UserError: "on" with a tokenizer that has no BOS token; or the tokenizer draws its
                tokens at random, or adds tokens in another way than before and after a text.
        """
        if tokenizer is None:
            return TextEncoder(None, name, (), (), bos)
        first = tokenizer.bos_token_id
        if bos == "on" and first is None:
            raise UserError(
                f"bos='on', but the tokenizer of {name!r} has no BOS token; give 'auto' or 'off'"
            )
        before, after = _added(tokenizer, bos, name)
        if bos == "on" and before[:1] != (first,):
            before = (first, *before)
        openings, rule = [tokenizer.bos_token or tokenizer.eos_token], bos
        other = () if before in ((), (first,)) else before
        if other:
            openings.append(str(tokenizer.decode(list(other))))
            rule += f"; {_words(tokenizer, other)} before a text"
        if after:
            rule += _left_out(tokenizer, after)
        if other or after:
            _notice(name, other, after, tokenizer)
        return TextEncoder(tokenizer, name, before, tuple(filter(None, openings)), rule)

    def __call__(self, text: str) -> list[int]:
        """The token ids of a text, never cut or padded.

        Args:
            text: any text.

        Returns:
            Token ids.

        Raises:
            UserError: there is no tokenizer, or it cannot read the text.
        """
        if self.tokenizer is None:
            raise UserError(no_tokenizer(self.name))
        with explained(f"the tokenizer of {self.name!r} cannot read a text", "see what it needs"):
            own = own_tokens(self.tokenizer, text)
        return own if text.startswith(self.openings) else [*self.before, *own]


def bridge_encoder(
    to_tokens: Callable[[str], list[int]], tokenizer: PreTrainedTokenizerBase | None, name: str
) -> tuple[Callable[[str], list[int]], str]:
    """A function from a text to its token ids, of a TransformerLens model.

    Args:
        to_tokens: the model's own function, without truncation.
        tokenizer: the model's; without one, the function raises an error.
        name: the model's name, used in messages.

    Returns:
        ``to_tokens`` without the tokens that it adds after every text, and what is left out in
        words; "" if it adds none. A warning says so too.
    """
    after: tuple[int, ...] = ()
    if tokenizer is not None and _after(
        lambda text: _tokens(tokenizer, text, special=True), tokenizer
    ):
        # The model may tell its tokenizer to add nothing: its own function decides.
        with explained(f"the tokenizer of {name!r} cannot read a text", "see what it needs"):
            after = _after(to_tokens, tokenizer)
    if tokenizer is not None and after:
        _notice(name, (), after, tokenizer)

    def encode(text: str) -> list[int]:
        if tokenizer is None:
            raise UserError(no_tokenizer(name))
        ids = to_tokens(text)
        return ids[: len(ids) - len(after)]

    return encode, _left_out(tokenizer, after) if tokenizer is not None and after else ""


def own_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text itself.

    Args:
        tokenizer: any tokenizer.
        text: any text.

    Returns:
        Token ids, without any that the tokenizer adds around a text.
    """
    return _tokens(tokenizer, text, special=False)


def check_text(text: object, what: str) -> None:
    """Check that a text is one.

    Args:
        text: what was given as a text.
        what: the text's name, used in error messages.

    Raises:
        UserError: it is something else, or has a lone surrogate.
    """
    if not isinstance(text, str):
        raise UserError(f"{what} is of type {type(text).__name__}, not a text: {text!r:.60}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} has a lone surrogate, {text[error.start]!r}, at character {error.start}: half of "
            "a character, from a text that was cut or decoded wrongly; mend the text or leave it out"
        ) from error


def no_tokenizer(name: str) -> str:
    """The error message for a model that is given text and has no tokenizer.

    Args:
        name: the model's name.

    Returns:
        One line that says what to do.
    """
    return (
        f"{name!r} has no tokenizer, so it cannot read text: give one with "
        "load_model(..., tokenizer=FOLDER or hub name), or give token ids instead of texts"
    )


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    # A tokenizer file may carry a length to cut at: truncation=False overrides it.
    options = {"truncation": False, "padding": False, "verbose": False}
    return list(tokenizer(text, add_special_tokens=special, **options).input_ids)


def _added(
    tokenizer: PreTrainedTokenizerBase, bos: str, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that a tokenizer adds before and after every text, under a BOS rule."""
    texts = _probes(tokenizer) or ["a", "b"]
    with explained(f"the tokenizer of {name!r} cannot read a text", "see what it needs"):
        own = [own_tokens(tokenizer, text) for text in texts]
        again = [own_tokens(tokenizer, text) for text in texts]
        with_added = [_tokens(tokenizer, text, special=True) for text in texts]
    if own != again or _draws(tokenizer):
        raise UserError(
            f"the tokenizer of {name!r} draws a text's tokens at random (BPE dropout, or sampling): "
            "switch that off in its files, so that results can be repeated"
        )
    if found := _always_added(tokenizer, own):
        raise UserError(
            f"the tokenizer of {name!r} adds {_words(tokenizer, found)} to every text, also without "
            "special tokens: take that out of its files (its normalizer, say), or give another"
        )
    if bos == "off":
        return (), ()
    splits = set.intersection(
        *({*_splits(whole, part)} for whole, part in zip(with_added, own, strict=True))
    )
    if len(splits) == 1:
        return splits.pop()
    if bos == "on":
        return (), ()
    raise UserError(
        f"the tokenizer of {name!r} adds tokens in another way than before and after a text "
        f'({texts[0]!r} becomes {with_added[0]}, alone {own[0]}); give bos="off", or bos="on"'
    )


def _always_added(tokenizer: PreTrainedTokenizerBase, own: Sequence[list[int]]) -> list[int]:
    """The tokens that texts of different words all begin or end in, though nothing is to be added."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    first, last = _common_end([ids[::-1] for ids in own])[-1:], _common_end(own)[-1:]
    several = len({tuple(ids) for ids in own}) > 2
    # Texts may all begin in the mark of a space.
    found = [token for token in first if token in special]
    found += [token for token in last if token in special or several]
    return [token for token in found if token != tokenizer.unk_token_id]


def _after(
    encode: Callable[[str], list[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The tokens after every text that are not those of the texts themselves."""
    texts = _probes(tokenizer)
    own = _common_end([own_tokens(tokenizer, text) for text in texts])
    found = _common_end([encode(text) for text in texts])
    return found[: len(found) - len(own)]


def _probes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Texts that differ in their first and last tokens, of a tokenizer's own words."""
    size, special = len(tokenizer), set(tokenizer.all_special_ids)
    some = dict.fromkeys(size * place // (4 * N_PROBES) for place in range(4 * N_PROBES))
    words = [str(tokenizer.decode([token])) for token in some if token not in special]
    words = [word for word in words if word.strip() and "\ufffd" not in word][-N_PROBES:]
    return [*words, *(first + second for first, second in zip(words, words[::-1], strict=True))]


def _splits(whole: list[int], part: list[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What stands before and after ``part``, wherever it stands in ``whole``."""
    size = len(part)
    starts = range(len(whole) - size + 1)
    return [
        (tuple(whole[:at]), tuple(whole[at + size :]))
        for at in starts
        if whole[at : at + size] == part
    ]


def _common_end(encoded: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all end in."""
    end: list[int] = []
    for tokens in zip(*(reversed(ids) for ids in encoded), strict=False):
        if len(set(tokens)) > 1:
            break
        end.insert(0, tokens[0])
    return tuple(end)


def _draws(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a fast tokenizer's model leaves out merges at random."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return bool(getattr(getattr(backend, "model", None), "dropout", None))


def _words(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokenizer.convert_ids_to_tokens(list(tokens))))


def _left_out(tokenizer: PreTrainedTokenizerBase, after: Sequence[int]) -> str:
    return f"; {_words(tokenizer, after)} after a text left out"


def _notice(
    name: str, before: Sequence[int], after: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    said = []
    if before:
        said.append(f'{_words(tokenizer, before)} before a text, which stays (bos="off" drops it)')
    if after:
        said.append(f"{_words(tokenizer, after)} after a text, which is left out")
    warnings.warn(f"the tokenizer of {name!r} puts {', and '.join(said)}", Notice, stacklevel=3)
