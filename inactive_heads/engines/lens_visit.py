"""One layer's TransformerLens hooks, gathered into one visit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import OutputPath
from inactive_heads.core.tensor_types import (
    HeadPattern,
    HeadVectors,
    KeyValueVectors,
    Pattern,
)
from inactive_heads.engines.base import Silence, Visitor
from inactive_heads.engines.network.stream import Streams, captured_stream
from inactive_heads.errors import UserError

HOOKS = ("hook_v", "hook_pattern", "hook_z")


def hook_name(layer: int, hook: str) -> str:
    """TransformerLens's name of an attention hook.

        hook_name(0, "hook_z")  # 'blocks.0.attn.hook_z'

    Args:
        layer: the layer's number.
        hook: the hook's own name.

    Returns:
        The full name.
    """
    return f"blocks.{layer}.attn.{hook}"


def hooks_of(layer: int, names: Collection[str]) -> dict[str, str]:
    """The hooks that show a layer's heads.

    Value vectors are those that attention sums. In models that normalise what ``hook_v`` shows
    (Gemma 4), they are shown by another hook.

    Args:
        layer: the layer's number.
        names: the full names of the model's hooks.

    Returns:
        By name in `HOOKS`, in their order, the full name of the hook to read.
    """
    found = {hook: hook_name(layer, hook) for hook in HOOKS}
    normed = hook_name(layer, "v_norm.hook_out")
    return found | {"hook_v": normed} if normed in names else found


def residual_hook(layer: int) -> str:
    """TransformerLens's name of the hook on the residual stream that enters a layer.

    Args:
        layer: the layer's number.

    Returns:
        The full name, such as "blocks.0.hook_resid_pre".
    """
    return f"blocks.{layer}.hook_resid_pre"


class _PatternNotReady(Exception):
    """A visitor asked for the pattern before the model computed it."""


class LayerVisit:
    """Collects one layer's activations from its hooks and shows them to the visitor once.

    The visitor is called at ``hook_z``, where its answer can still change the output. Some
    architectures (GPT-J, OPT, GPT-Neo) run ``hook_pattern`` after ``hook_z``: a visitor that asks
    for the pattern there is called again at ``hook_pattern``, and can then only look.
    """

    def __init__(
        self,
        model: str,
        batch: TokenBatch,
        visitor: Visitor,
        layer: int,
        path: OutputPath,
        streams: Streams,
        names: Mapping[str, str],
    ) -> None:
        self.model, self.batch, self.visitor = model, batch, visitor
        self.layer, self.path, self.streams, self.names = layer, path, streams, names
        self.v: KeyValueVectors | None = None
        self.pattern: Pattern | None = None
        self.pending_z: HeadVectors | None = None
        self.visited = False

    def hooks(self) -> list[tuple[str, Any]]:
        callbacks = {"hook_v": self.on_v, "hook_pattern": self.on_pattern, "hook_z": self.on_z}
        return [(self.names[hook], call) for hook, call in callbacks.items()]

    def on_v(self, v: Tensor, hook: object) -> None:
        self.v = v

    def on_pattern(self, pattern: Tensor, hook: object) -> None:
        if self.visited:
            return
        self.pattern = pattern
        if self.pending_z is not None and self.visit(self.pending_z) is not None:
            raise UserError(
                f"{self.model!r} shows its attention pattern only after the "
                "head outputs, so heads cannot be zeroed by a score of attention weights through "
                "TransformerLens hooks; choose a score of v or z"
            )

    def on_z(self, z: Tensor, hook: object) -> Tensor | None:
        try:
            silence = self.visit(z)
        except _PatternNotReady:
            self.pending_z = z
            return None
        return None if silence is None else silence.apply(z)

    def visit(self, z: HeadVectors) -> Silence | None:
        assert self.v is not None, "hook_v runs before hook_z"
        heads = HeadActivations(
            layer=self.layer,
            batch=self.batch,
            values=self.v,
            outputs=z,
            attention=_PendingPattern(self),
            path=self.path,
            stream=partial(captured_stream, self.streams, self.layer, z, self.path),
        )
        silence = self.visitor(heads)
        self.visited = True
        # Release the tensors, so that one layer is held at a time.
        self.v = self.pattern = self.pending_z = None
        self.streams.pop(self.layer, None)
        return silence


class _PendingPattern:
    """Attention statistics of a layer whose pattern may not have been computed yet."""

    def __init__(self, visit: LayerVisit) -> None:
        self.visit = visit

    def _statistics(self) -> PatternStatistics:
        if self.visit.pattern is None:
            raise _PatternNotReady
        return PatternStatistics(self.visit.batch, self.visit.pattern)

    def pattern(self) -> Pattern:
        return self._statistics().pattern()

    def pattern_of(self, head: int) -> HeadPattern:
        return self._statistics().pattern_of(head)

    def first_token_weight(self) -> Tensor:
        return self._statistics().first_token_weight()

    def entropy(self) -> Tensor:
        return self._statistics().entropy()
