"""What a score is tried on: tiny models with random weights, and what their heads do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from inactive_heads.core.activations import HeadActivations, PatternStatistics, TokenBatch
from inactive_heads.core.tensor_types import (
    Engine,
    HeadVectors,
    KeyValueVectors,
    Pattern,
    PerHead,
)
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.errors import UserError
from inactive_heads.models.random_weights import Architecture
from inactive_heads.scores.registry import Score

SCALE = 0.25
"""Standard deviation of the weights: with the usual 0.02 all heads would do nearly the same."""

PLAIN = Architecture(
    family="gpt2",
    name="a tiny GPT-2",
    n_layers=2,
    n_heads=4,
    n_key_value_heads=4,
    d_head=8,
    d_model=32,
    d_mlp=48,
    n_ctx=64,
    d_vocab=97,
)
GROUPED = replace(PLAIN, family="llama", name="a tiny Llama", n_key_value_heads=2)

Values = Float[Tensor, "input layer head"]
Prepare = Callable[[HeadActivations], HeadActivations]


class Failed(Exception):
    """A score did what it must not; the message says what."""


def new_plain_model() -> FlashEngine:
    """Heads with keys and values of their own, biases, learned positions."""
    return FlashEngine(_network(PLAIN), PLAIN.name)


# Models are made once: scores see copies, so that none can spoil them for the next.
plain_model = cache(new_plain_model)


@cache
def hooked_model() -> LensEngine:
    """The same model, seen through TransformerLens hooks."""
    return LensEngine(bridge_of(_network(PLAIN, attention="eager"), PLAIN.name))


@cache
def grouped_model() -> FlashEngine:
    """Query heads that share keys and values in groups."""
    return FlashEngine(_network(GROUPED), GROUPED.name)


@cache
def ungrouped_model() -> FlashEngine:
    """The same function as the grouped model, each head's keys and values written out."""
    own, group = "_proj.weight", GROUPED.n_heads // GROUPED.n_key_value_heads
    weights = {
        name: repeat(w, "(kv d) m -> (kv group d) m", group=group, d=GROUPED.d_head)
        if name.endswith(("k" + own, "v" + own))
        else w
        for name, w in _network(GROUPED).state_dict().items()
    }
    network = _network(replace(GROUPED, n_key_value_heads=GROUPED.n_heads))
    network.load_state_dict(weights)
    return FlashEngine(network, GROUPED.name)


@dataclass(frozen=True)
class Trial:
    """A score that is tried: it sees copies of what models compute, unless told otherwise."""

    score: Score

    def values(self, engine: Engine, batch: TokenBatch, prepare: Prepare | None = None) -> Values:
        """The score of every head, of copies of what the model computed."""
        found = self.look(engine, batch, lambda heads: self((prepare or copied)(heads)))
        return torch.stack(found, dim=1).double()

    def look(
        self, engine: Engine, batch: TokenBatch, see: Callable[[HeadActivations], PerHead]
    ) -> list[PerHead]:
        """What ``see`` gives for each layer."""
        found: list[PerHead] = []
        engine.run(batch, lambda heads: found.append(see(heads)))
        return found

    def __call__(self, heads: HeadActivations) -> PerHead:
        """The score of a layer's heads.

        Raises:
            Failed: the score raised an error, or what it returned is none; ratios may be NaN.
        """
        found = self.shaped(heads)
        wrong = torch.nonzero(~found.isfinite())
        if len(wrong) and not self.score.is_ratio:
            row, head = wrong[0].tolist()
            raise Failed(
                f"it returns {found[row, head].item()} for L{heads.layer}H{head} of input {row}"
            )
        return found

    def shaped(self, heads: HeadActivations) -> PerHead:
        """What the score returns, finite or not.

        Raises:
            Failed: the score raised an error, or returned no floating point of the right shape.
        """
        expected, found = (len(heads.batch.tokens), heads.n_heads), self._guarded(heads)
        if not isinstance(found, Tensor):
            raise Failed(f"it returns a {type(found).__name__}, not a torch.Tensor")
        if tuple(found.shape) != expected:
            raise Failed(f"it returns shape {tuple(found.shape)}, not (batch, head) = {expected}")
        if not found.is_floating_point():
            raise Failed(f"it returns {found.dtype}, not floating point")
        return found

    def _guarded(self, heads: HeadActivations) -> Any:
        """What the function returns; whatever error it raises is told as `Failed`."""
        try:
            return self.score.function(heads)
        except UserError as error:
            raise Failed(str(error)) from error
        except Exception as error:
            raise Failed(f"it raises {type(error).__name__}: {error}") from error


def _network(architecture: Architecture, attention: str | None = None) -> PreTrainedModel:
    """The model with weights so large that its heads differ, and no bias that is 0."""
    network = architecture.network(torch.float32, attention)
    generator = torch.Generator().manual_seed(architecture.seed)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=SCALE, generator=generator)
        elif not bool(parameter.any()):
            parameter.normal_(std=SCALE / 2, generator=generator)
    return network


def copied(heads: HeadActivations) -> HeadActivations:
    """The same heads, of which a score may spoil what it likes."""
    path, residual = replace(heads.path, weights=heads.path.weights.clone()), heads.stream().clone()
    return replace(
        heads,
        batch=_copied_batch(heads.batch),
        values=heads.values.clone(),
        outputs=heads.outputs.clone(),
        path=path,
        stream=lambda: residual,
        scored={},
    )


def laid_open(heads: HeadActivations) -> HeadActivations:
    """A copy of the same heads whose attention statistics come from a pattern held in memory."""
    own = copied(heads)
    return replace(own, attention=PatternStatistics(own.batch, heads.pattern.clone()))


def with_activations(
    heads: HeadActivations, values: KeyValueVectors, outputs: HeadVectors, pattern: Pattern
) -> HeadActivations:
    """The same heads with other value vectors, outputs and attention weights."""
    attention = PatternStatistics(heads.batch, pattern)
    return replace(heads, values=values, outputs=outputs, attention=attention, scored={})


@contextmanager
def small_and_quiet() -> Iterator[None]:
    """One thread, as more only wait for each other over tiny models; and no warnings.

    What torch warns of, such as the spread of a single number, is found and said in words.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


def padded(sample: Sequence[int], left: int, right: int) -> TokenBatch:
    """One input alone, with padding on both or either side of it."""
    tokens = torch.tensor([[0] * left + [*sample] + [0] * right])
    positions = torch.arange(tokens.shape[1])[None]
    return TokenBatch(tokens, (positions >= left) & (positions < left + len(sample)))


def _copied_batch(batch: TokenBatch) -> TokenBatch:
    return TokenBatch(batch.tokens.clone(), batch.mask.clone(), batch.rows)
