"""Text generated with heads silenced, chosen anew at every step or once on the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import Logits
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import CachedDecoding, can_decode
from inactive_heads.engines.finite import check_logits
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.errors import UserError
from inactive_heads.models.batching import encode_samples, run_in_batches
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Samples
from inactive_heads.progress import progress_bar

Decide = Literal["every-step", "prompt"]
"""When an ablation chooses the heads to silence; see `generate`."""


@runtime_checkable
class Choose(Protocol):
    """A function that picks the next tokens."""

    def __call__(self, logits: Logits, rows: Sequence[int], step: int, /) -> list[int]:
        """Pick the next token of some prompts.

        Args:
            logits: ``(row, vocab)``, next-token logits.
            rows: each row's index among the prompts.
            step: the number of tokens already generated.

        Returns:
            One token id per row.
        """
        ...


def greedy(logits: Logits, rows: Sequence[int], step: int) -> list[int]:
    """The most probable next tokens.

    Args:
        logits: ``(row, vocab)``, next-token logits.
        rows: not used.
        step: not used.

    Returns:
        One token id per row.
    """
    found: list[int] = logits.argmax(dim=-1).tolist()
    return found


@dataclass(frozen=True)
class Sampling:
    """Draws next tokens by their probability, for the ``choose`` of `generate`.

        ih.generate(model, prompts, choose=ih.Sampling(temperature=0.7, top_p=0.95, seed=1))

    A draw depends only on the seed, the prompt's index and the step, not on batches. The other
    options are those of Hugging Face transformers.

    Attributes:
        temperature: divides the logits; above 0.
        top_k: only this many of the most probable tokens are candidates; None or 0 for all.
        top_p: only the most probable tokens whose probabilities add up to this are candidates;
            above 0, up to 1; None or 1 for all.
        seed: the seed of the draws.

    Raises:
        UserError: ``temperature``, ``top_k`` or ``top_p`` is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._warpers()  # raises an error if a value is out of range

    def __call__(self, logits: Logits, rows: Sequence[int], step: int) -> list[int]:
        for warper in self._warpers():
            logits = warper(torch.empty(0), logits)
        cumulative = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1).cpu()
        draws = [np.random.default_rng((self.seed, row, step)).random() for row in rows]
        # Rounding must not put a draw above the total; tokens of probability 0 are skipped.
        reached = torch.tensor(draws)[:, None] * cumulative[:, -1:]
        found: list[int] = (cumulative <= reached).sum(dim=-1).tolist()
        return found

    def _warpers(self) -> list[Callable[..., Logits]]:
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p is a probability above 0, up to 1, not {self.top_p!r}")
        try:
            warpers: list[Callable[..., Logits]] = [TemperatureLogitsWarper(self.temperature)]
            if self.top_k:
                warpers.append(TopKLogitsWarper(self.top_k))
            if self.top_p is not None and self.top_p < 1:
                warpers.append(TopPLogitsWarper(self.top_p))
        except ValueError as error:
            raise UserError(f"cannot sample so: {error}") from error
        return warpers


@dataclass(frozen=True, eq=False)
class Generation:
    """The result of `generate`.

    Attributes:
        tokens: each prompt's generated token ids, including the token that ended the text.
        percent_zeroed: ``(prompt,)``, the percent of heads silenced, averaged over the steps.
    """

    tokens: list[list[int]]
    percent_zeroed: np.ndarray


@default_settings()
def generate(
    model: Any,
    prompts: Samples,
    ablation: Ablation | None = None,
    *,
    decide: Decide = "every-step",
    max_new_tokens: int = 256,
    stop: Callable[[list[int]], bool] = lambda written: False,
    choose: Choose = greedy,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> Generation:
    """The text that the model generates after each prompt, with heads silenced.

        written = ih.generate(model, ["Once upon a time"], ih.PerInput("AHON (LN)", 0.4))
        model.tokenizer.decode(written.tokens[0])

    With ``decide="every-step"``, as in the paper's code, the whole text is run again for every new
    token, and heads are chosen anew on it. With ``"prompt"``, heads are chosen once, on the prompt,
    and stay silenced while text is generated; keys and values are cached, so every token is run
    once. If the choice does not depend on the text (`Fixed`, `Random`, no ablation), both are the
    same, and the flash engine uses the cache. Every token follows from the model's logits on the
    whole text, as with Hugging Face's ``generate(use_cache=False)``: where rotary angles depend on
    the text's length, a cache that crosses the border is made anew.

    Args:
        model: from `load_model`, or a TransformerBridge or HookedTransformer.
        prompts: texts or token ids, as for `score_heads`.
        ablation: `PerInput`, `Fixed`, `Random`, `Placebo`, or None for the unablated model.
        decide: "every-step" or "prompt".
        max_new_tokens: the most tokens to generate per prompt.
        stop: called with a prompt's generated tokens after every step; the text ends if it returns
            True. It always ends at the model's end-of-text token.
        choose: `greedy`, a `Sampling`, or a function of your own.
        batch_size: prompts per batch, or "auto".
        progress: whether to show a progress bar.

    Returns:
        The generated tokens and the percent of heads silenced, in the order of the prompts.

    Raises:
        UserError: ``decide`` is unknown, or is "prompt" for an ablation by activations with an
            engine other than "flash" or a model that cannot use a cache; a prompt is empty or has
            an unknown token id; a prompt and ``max_new_tokens`` together exceed the model's
            context; ``max_new_tokens`` is below 1; the ablation does not fit the model; a prompt
            does not fit in memory; or logits are not finite.
    """
    subject = as_model(model)
    check_decide(decide)
    encoded = encode_samples(subject, prompts)
    recorder = None if ablation is None else ZeroedRecorder(ablation, subject.shape, len(encoded))
    engine, constant = subject.engine, ablation is None or not ablation.depends_on_activations
    if decide == "prompt" and not constant and not isinstance(engine, FlashEngine):
        other = "" if "flash" in subject.refused else ', or try engine="flash"'
        raise UserError(
            f'decide="prompt" keeps a cache, which engine={engine.name!r} cannot; give '
            f'decide="every-step"{other}'
        )
    for index, tokens in enumerate(encoded):
        check_room(subject, tokens, max_new_tokens, f"prompt {index}")
    cached = None
    if isinstance(engine, FlashEngine) and (constant or decide == "prompt") and can_decode(engine):
        cached = engine
    elif decide == "prompt" and not constant:
        raise UserError(
            'decide="prompt" keeps a cache, from which this model does not write what it writes '
            'without one; use decide="every-step"'
        )
    written: list[list[int]] = [[] for _ in encoded]
    zeroed = np.zeros(len(encoded))
    ends = _end_tokens(subject)

    with progress_bar("Generating", len(encoded), show=progress) as advance:

        def run(batch: TokenBatch) -> None:
            texts = {row: list(encoded[row]) for row in batch.rows}
            if cached is None:
                steps: _Steps = _WholeSteps(subject, texts, recorder)
            else:
                steps = _CachedSteps(cached, batch, texts, recorder)
            shares: dict[int, list[float]] = {row: [] for row in texts}
            going = list(texts)
            while going:
                logits = check_logits(steps(going), going.__getitem__)
                step = len(shares[going[0]])
                for row, token in zip(going, choose(logits, going, step), strict=True):
                    texts[row].append(token)
                    shares[row].append(
                        0.0 if recorder is None else float(recorder.shares([row])[0])
                    )
                going = [row for row in going if not ended(texts[row][len(encoded[row]) :])]
            for row, text in texts.items():
                written[row] = text[len(encoded[row]) :]
                zeroed[row] = 100 * np.mean(shares[row])
            advance(len(texts))

        def ended(own: list[int]) -> bool:
            return len(own) == max_new_tokens or own[-1] in ends or stop(own)

        run_in_batches(subject, encoded, run, batch_size=batch_size)
    return Generation(written, zeroed)


def check_decide(decide: str) -> None:
    """Check a value of ``decide``.

    Args:
        decide: the value.

    Raises:
        UserError: it is neither "every-step" nor "prompt".
    """
    if decide not in get_args(Decide):
        raise UserError(f"decide must be every-step or prompt, not {decide!r}")


def check_room(model: Model, tokens: Sequence[int], max_new_tokens: int, name: str) -> None:
    """Check that a prompt and the text generated after it fit the model's context.

    Args:
        model: the model.
        tokens: the prompt's token ids.
        max_new_tokens: the most tokens to generate.
        name: the prompt's name, used in error messages.

    Raises:
        UserError: together they exceed the context, or ``max_new_tokens`` is below 1.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    if len(tokens) + max_new_tokens > model.shape.n_ctx:
        raise UserError(
            f"{name} has {len(tokens)} tokens and up to {max_new_tokens} are to be written after "
            f"it, the model's context is {model.shape.n_ctx}; give a shorter prompt (fewer shots), "
            "or write fewer tokens (nothing is cut silently)"
        )


_Steps = Callable[[list[int]], Logits]
"""Computes next-token logits for some of a batch's texts, each one token longer than before."""


@dataclass(eq=False)
class _WholeSteps:
    """Runs every text from its first token at every step, so that heads are chosen anew."""

    model: Model
    texts: dict[int, list[int]]
    recorder: ZeroedRecorder | None

    def __call__(self, rows: list[int]) -> Logits:
        device = self.model.engine.device
        batch = TokenBatch.of([self.texts[row] for row in rows], rows=rows, device=device)
        return self.model.engine.run(batch, self.recorder)


class _CachedSteps:
    """Runs the prompts, then every new token once, with the heads silenced that they decided."""

    def __init__(
        self,
        engine: FlashEngine,
        batch: TokenBatch,
        texts: dict[int, list[int]],
        recorder: ZeroedRecorder | None,
    ) -> None:
        self._texts, self._rows = texts, list(batch.rows)
        decided: dict[int, Silence | None] = {}
        if recorder is not None:

            def keep(heads: HeadActivations) -> Silence | None:
                decided[heads.layer] = recorder(heads)
                return decided[heads.layer]

            engine.run(batch, keep)
        prompts = [texts[row] for row in self._rows]
        padded = TokenBatch.of(prompts, side="left", rows=self._rows, device=engine.device)
        self._decoding = CachedDecoding(engine, padded, decided.get)
        self._started = False

    def __call__(self, rows: list[int]) -> Logits:
        if not self._started:
            self._started = True
            return self._decoding.start()
        # Texts that have ended keep their place in the cache: they are run, and ignored.
        last = torch.tensor([self._texts[row][-1] for row in self._rows])
        logits = self._decoding.step(last.to(self._decoding.device))
        return logits[[self._rows.index(row) for row in rows]]


def _end_tokens(model: Model) -> set[int]:
    """The tokens that end a text, from the tokenizer and the model's generation config."""
    network = getattr(model.engine, "network", None)
    config = getattr(network, "generation_config", None)
    found = [getattr(config, "eos_token_id", None), getattr(model.tokenizer, "eos_token_id", None)]
    ends: set[int] = set()
    for one in found:
        ends |= set(one) if isinstance(one, list) else set() if one is None else {one}
    return ends
