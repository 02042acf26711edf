"""What engines and visitors promise each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from inactive_heads.core.tensor_types import HeadMask, HeadMeans, HeadVectors, Logits, TokenMask

if TYPE_CHECKING:
    from inactive_heads.core.activations import HeadActivations
    from inactive_heads.core.batch import TokenBatch
    from inactive_heads.engines.prefix_tree import Row


@dataclass(frozen=True)
class Silence:
    """A visitor's answer: the heads whose output is replaced at every position.

    ``mask`` is true where a head of an input is silenced. ``value`` is what its output ``z``
    becomes: zero when None, else one vector per head (its mean over a calibration set, say).
    """

    mask: HeadMask
    value: HeadMeans | None = None

    def apply(self, z: HeadVectors) -> HeadVectors:
        """``z`` with the silenced heads replaced; ``z`` itself is left as it was."""
        mask = self.mask.to(z.device)[:, None, :, None]
        if self.value is None:
            return z.masked_fill(mask, 0)
        return torch.where(mask, self.value.to(z), z)


@runtime_checkable
class Visitor(Protocol):
    """Sees every layer's heads in the order the model computes them.

    What it answers is applied before the model goes on, so that later layers see it; None
    leaves the layer as it is.
    """

    def __call__(self, heads: HeadActivations, /) -> Silence | None: ...


LayerSilences = Callable[[int], Silence | None]
"""What is silenced in a layer, whatever the inputs; its mask has one row, for all of them."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model, with TransformerLens's names.

    ``layers`` are the layers that have attention heads: all of them, but in hybrids.
    """

    layers: tuple[int, ...]
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_model: int
    n_ctx: int
    d_vocab: int

    def bytes_per_token(self, itemsize: int) -> int:
        """Memory that one token takes in one layer, roughly, with numbers of that many bytes."""
        residual, heads = self.d_model, self.n_heads * self.d_head
        # The residual stream, its norm and sum; an MLP four times as wide, three times over; the
        # heads' vectors, and in float32 what scores make of them.
        return itemsize * (4 + 3 * 4) * residual + (6 * itemsize + 6 * 4) * heads


@runtime_checkable
class Engine(Protocol):
    """Runs a model once over a batch and shows a visitor the heads of every layer."""

    name: str
    shape: ModelShape

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def bytes_per_token(self, longest: int) -> int:
        """Memory that a token of an input of ``longest`` tokens takes while it runs, roughly."""
        ...

    def run(
        self, batch: TokenBatch, visitor: Visitor | None = None, keep: TokenMask | None = None
    ) -> Logits:
        """Next-token logits (float32) after the tokens where ``keep`` is true, row after row.

        Without ``keep``, after each input's last token.
        """
        ...


@runtime_checkable
class SharingEngine(Engine, Protocol):
    """An engine that can run once what inputs share, where nobody has to see their heads."""

    def shares_prefixes(self) -> bool:
        """Whether it can for this model; if not, `run_row` is not to be called."""
        ...

    def run_row(
        self, row: Row, keep: TokenMask, silences: LayerSilences, cache: Any = None
    ) -> tuple[Logits, Any]:
        """Next-token logits (float32) after the kept tokens ``(1, pos)``, and the next row's cache.

        ``cache`` is what the run of the row before gave, and is used up.
        """
        ...
