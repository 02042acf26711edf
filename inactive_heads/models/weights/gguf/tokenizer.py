"""The tokenizer of a .gguf file."""

from __future__ import annotations

import json
import warnings

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.gguf.header import Value
from inactive_heads.models.weights.gguf.parts import StoredModel
from inactive_heads.models.weights.gguf.splits import SPLITS, WHOLE_WORDS
from inactive_heads.third_party import explained, quiet

NO_VOCABULARY = (None, "none", "no_vocab")
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
HINT = "give the model's own with tokenizer=FOLDER or hub name"

SENTENCEPIECE_IDS = {"bos": 1, "eos": 2, "unknown": 0}
"""What sentencepiece vocabularies have where the file does not say."""


def read_tokenizer(stored: StoredModel) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a model.

    Args:
        stored: the file.

    Returns:
        The tokenizer, which splits and opens texts as llama.cpp does; None without a vocabulary.

    Raises:
        UserError: it is damaged, of a kind that is not read here, or has settings that are not.
    """
    kind = stored.metadata.get("tokenizer.ggml.model")
    if kind in NO_VOCABULARY:
        return None
    if kind not in (BYTE_LEVEL, SENTENCEPIECE):
        raise UserError(
            f"the tokenizer of {stored.path} is of the kind {kind!r}, which is not read here; {HINT}"
        )
    for key, harmless in (("remove_extra_whitespaces", False), ("add_sep_token", False)):
        if stored.metadata.get(f"tokenizer.ggml.{key}", harmless) != harmless:
            raise UserError(f"the tokenizer of {stored.path} has {key}, which is not read; {HINT}")
    with quiet(), explained(f"the tokenizer of {stored.path} cannot be read", HINT):
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            stored.path.parent, gguf_file=stored.path.name, local_files_only=True
        )
        rule = _setting(stored, "pre", "")
        if kind == BYTE_LEVEL:
            _split_as_stated(stored, tokenizer.backend_tokenizer, str(rule))
        elif not _setting(stored, "add_space_prefix", True):
            _add_no_space(tokenizer.backend_tokenizer)
        opens = kind == SENTENCEPIECE or rule in WHOLE_WORDS
        _set_ends(stored, tokenizer, kind == SENTENCEPIECE, bool(opens))
    return tokenizer


def _split_as_stated(stored: StoredModel, backend: Tokenizer, rule: str) -> None:
    if rule in SPLITS:
        backend.model.ignore_merges = rule in WHOLE_WORDS
        splits = [pre_tokenizers.Split(Regex(each), "isolated") for each in SPLITS[rule]]
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    elif rule:
        raise UserError(
            f"the tokenizer of {stored.path} splits texts by the rule {rule!r}, which is not known "
            f"here; {HINT}"
        )
    elif not _merges_letters_only(backend):
        warnings.warn(
            f"{stored.path} does not say how its tokenizer splits texts (tokenizer.ggml.pre): they "
            f"are split as GPT-2's. If the model has another rule, {HINT}",
            Notice,
            stacklevel=2,
        )


def _merges_letters_only(backend: Tokenizer) -> bool:
    """Whether all rules give the same tokens: what they keep apart is never merged."""
    merges = json.loads(backend.to_str())["model"].get("merges", [])
    return all("".join(pair).islower() and "".join(pair).isalpha() for pair in merges)


def _add_no_space(backend: Tokenizer) -> None:
    """Leaves texts without a space in front, which sentencepiece adds by default."""
    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)


def _set_ends(
    stored: StoredModel, tokenizer: PreTrainedTokenizerFast, sentencepiece: bool, opens: bool
) -> None:
    """BOS and EOS around a text: as the file says, or as llama.cpp does where it says nothing."""
    vocabulary = tokenizer.get_vocab()
    names = {number: token for token, number in vocabulary.items()}
    for name, attribute in (("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token")):
        default = SENTENCEPIECE_IDS[name] if sentencepiece else None
        number = _setting(stored, f"{name}_token_id", default)
        if isinstance(number, int) and number in names:
            setattr(tokenizer, attribute, names[number])
    for name, default in (("bos", opens), ("eos", False)):
        added = _setting(stored, f"add_{name}_token", default)
        if added and getattr(tokenizer, f"{name}_token") is None:
            raise UserError(
                f"the tokenizer of {stored.path} adds {name.upper()} and does not say which token "
                f"that is (tokenizer.ggml.{name}_token_id); {HINT}"
            )
        setattr(tokenizer, f"add_{name}_token", bool(added))


def _setting(stored: StoredModel, key: str, default: Value) -> Value:
    return stored.metadata.get(f"tokenizer.ggml.{key}", default)
