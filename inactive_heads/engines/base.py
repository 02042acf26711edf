"""The protocols of engines and visitors, and the types that pass between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.core.tensor_types import (
    FinalStates,
    HeadMask,
    HeadMeans,
    HeadVectors,
    Logits,
    TokenMask,
)
from inactive_heads.engines.prefix_tree import Row
from inactive_heads.errors import UserError


@dataclass(frozen=True)
class Silence:
    """A visitor's answer: the heads of one layer whose output z is replaced at every position.

        silence = Silence(heads.mean_over_tokens(heads.z_norm) < 0.1)

    Attributes:
        mask: ``(batch, head)``, true where an input's head is silenced; one row applies to all
            inputs. On any device.
        value: what the head's output becomes, ``(head, d_head)``: for example its mean over a
            calibration set. Zero if None.
    """

    mask: HeadMask
    value: HeadMeans | None = None

    def apply(self, z: HeadVectors) -> HeadVectors:
        """The head outputs with the silenced heads replaced, padding included.

        Args:
            z: head outputs, ``(batch, pos, head, d_head)``. Not modified.

        Returns:
            A new tensor of the same shape, dtype and device.

        Raises:
            UserError: the mask or the value does not fit ``z``.
        """
        self.check(z)
        mask = self.mask.to(z.device)[:, None, :, None]
        if self.value is None:
            return z.masked_fill(mask, 0)
        return torch.where(mask, self.value.to(z), z)

    def check(self, z: HeadVectors) -> None:
        """Check that the answer fits a layer's head outputs.

        Args:
            z: head outputs, ``(batch, pos, head, d_head)``.

        Raises:
            UserError: the mask is not boolean or not ``(batch, head)``; or the value is not
                floating-point, not ``(head, d_head)``, or not finite at a silenced head.
        """
        batch, _, n_heads, d_head = z.shape
        mask, value = self.mask, self.value
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise UserError(f"the mask of a Silence is a boolean torch.Tensor, not {_kind(mask)}")
        if tuple(mask.shape) not in ((batch, n_heads), (1, n_heads)):
            raise UserError(
                f"the mask of a Silence has shape {tuple(mask.shape)}; it must be (batch, head) = "
                f"{(batch, n_heads)}, or {(1, n_heads)} for all inputs alike"
            )
        if value is None:
            return
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UserError(
                f"the value of a Silence is a floating-point torch.Tensor, not {_kind(value)}"
            )
        if tuple(value.shape) != (n_heads, d_head):
            raise UserError(
                f"the value of a Silence has shape {tuple(value.shape)}; it must be "
                f"(head, d_head) = {(n_heads, d_head)}"
            )
        wrong = mask.any(dim=0).to(value.device) & ~value.isfinite().all(dim=1)
        if bool(wrong.any()):
            raise UserError(
                f"the value of a Silence is not finite at head {int(wrong.nonzero()[0])}, which it "
                "replaces; give finite numbers"
            )


def _kind(given: object) -> str:
    kind = f"a {type(given).__name__}"
    return f"{kind} of {given.dtype}" if hasattr(given, "dtype") else kind


def checked_answer(answer: object, z: HeadVectors, layer: int) -> Silence | None:
    """What a visitor answered at a layer, if it is an answer.

    Args:
        answer: what the visitor returned.
        z: the layer's head outputs, ``(batch, pos, head, d_head)``.
        layer: the layer's number.

    Returns:
        The answer.

    Raises:
        UserError: it is neither None nor a `Silence` that fits the layer.
    """
    if answer is None:
        return None
    if not isinstance(answer, Silence):
        raise UserError(
            f"at layer {layer} a visitor returned {_kind(answer)}; it must return None, or "
            "Silence(mask) with a boolean mask (batch, head), true where a head is silenced"
        )
    answer.check(z)
    return answer


@runtime_checkable
class Visitor(Protocol):
    """A function that sees every layer's heads, in the order in which the model computes them."""

    def __call__(self, heads: HeadActivations, /) -> Silence | None:
        """Look at one layer's heads, and answer with those to silence.

        Args:
            heads: the layer's activations, which reflect the answers in earlier layers.

        Returns:
            The heads to silence before the model runs the next layer. None leaves the layer
            unchanged.
        """
        ...


class CheckedVisitor:
    """A visitor whose answers are checked and kept.

    Args:
        visitor: the visitor that answers.
    """

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._answers: dict[int, tuple[Sequence[int], Silence]] = {}

    def __call__(self, heads: HeadActivations) -> Silence | None:
        answer = checked_answer(self._visitor(heads), heads.outputs, heads.layer)
        if answer is not None:
            self._answers[heads.layer] = heads.batch.rows, answer
        return answer

    def of_row(self, row: int) -> dict[int, Silence]:
        """The answers for one input.

        Args:
            row: the input's number among all inputs of the run.

        Returns:
            By layer, an answer with a mask of one row; layers without an answer are left out.
        """
        return {
            layer: answer
            if len(answer.mask) == 1
            else replace(answer, mask=answer.mask[list(rows).index(row)][None])
            for layer, (rows, answer) in self._answers.items()
        }


LayerSilences = Callable[[int], Silence | None]
"""Returns the heads of a layer to silence, the same for all inputs: a mask of one row, or None."""


@runtime_checkable
class Engine(Protocol):
    """Runs a model once over a batch and shows a visitor the heads of every layer.

    What every engine guarantees:

    - The visitor is called for every layer of ``shape.layers``, in ascending order, and its answer
      is applied to z, the input of W_O, before later layers run.
    - An input's results do not depend on padding, on its side, or on the rest of the batch.
    - Without a visitor, logits are those of the model itself.
    - A run leaves the model unmodified, even if it fails: no hook or setting outlives it. No
      gradients are recorded.
    - Logits are finite, or `UserError` names the input. Settings of the caller (torch's default
      dtype and device, autocast, a model in training mode) have no effect.

    Attributes:
        name: the engine's name, as in ``load_model(..., engine=name)``.
        shape: the model's sizes.
    """

    name: str
    shape: ModelShape

    @property
    def device(self) -> torch.device:
        """The device on which the model takes its tokens."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        ...

    def bytes_per_token(self, longest: int) -> int:
        """A rough estimate of the memory that one token takes during a run.

        Args:
            longest: length of the batch's longest input, in tokens.

        Returns:
            Bytes; used to choose batch sizes.
        """
        ...

    def run(
        self, batch: TokenBatch, visitor: Visitor | None = None, keep: TokenMask | None = None
    ) -> Logits:
        """Run the model once over a batch.

        Args:
            batch: the inputs, none longer than ``shape.n_ctx``, on the engine's device.
            visitor: sees every layer's heads and may answer with those to silence; None runs the
                model alone.
            keep: ``(batch, pos)``, true at the tokens after which logits are wanted; each input's
                last token by default.

        Returns:
            Next-token logits, ``(kept, d_vocab)``, float32: the kept tokens of the first input,
            then of the second, and so on.
        """
        ...


@runtime_checkable
class SharingEngine(Engine, Protocol):
    """An engine that can run shared prefixes once if no visitor needs activations."""

    def shares_prefixes(self) -> bool:
        """Whether prefixes can be shared for this model.

        Returns:
            False if `run_row` must not be called.
        """
        ...

    def run_row(
        self, row: Row, keep: TokenMask, silences: LayerSilences, cache: Any = None
    ) -> tuple[Logits, Any]:
        """Run a row of segments, each of which continues segments above it.

        Args:
            row: the segments; see `inactive_heads.engines.prefix_tree`.
            keep: ``(1, pos)``, true at the row's tokens after which logits are wanted.
            silences: returns the heads to silence in a layer, the same for all inputs.
            cache: the cache that the run of the previous row returned, which must not be used
                again; None for the first row.

        Returns:
            Next-token logits after the kept tokens, ``(kept, d_vocab)``, float32, and the cache for
            the next row.
        """
        ...


@runtime_checkable
class UnembeddingEngine(Engine, Protocol):
    """An engine that shows what enters the unembedding, and can turn it into logits later."""

    def final_states(self) -> AbstractContextManager[list[FinalStates]]:
        """A context in which the final hidden states of every run are kept.

        Returns:
            The context. It yields a list that grows by the states at a run's kept tokens,
            ``(kept, d_model)``, in the order of the run's logits.
        """
        ...

    def unembed(self, states: FinalStates) -> Logits:
        """Turn final hidden states into logits.

        Args:
            states: ``(kept, d_model)``, as `final_states` keeps them; on any device.

        Returns:
            The logits that a run with these states has, ``(kept, d_vocab)``, float32.
        """
        ...
