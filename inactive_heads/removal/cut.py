"""The weights of heads cut out of a network's attention layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inactive_heads.core.tensor_types import HeadMeans
from inactive_heads.engines.network.blocks import projection_weights
from inactive_heads.engines.routing.uneven_groups import set_read
from inactive_heads.removal.head_counts import is_even, set_counts
from inactive_heads.removal.head_rows import MadeHeads

Kept = Int[Tensor, " kept"]


@dataclass(frozen=True)
class Removal:
    """The heads to remove from one layer.

    Attributes:
        reads: for each head, the key/value head that it reads.
        removed: the heads to remove.
        means: what replaces their outputs, ``(head, d_head)``; None for zero.
    """

    reads: Sequence[int]
    removed: Sequence[int]
    means: HeadMeans | None = None

    @property
    def kept(self) -> list[int]:
        """The heads that stay, ascending."""
        return sorted(set(range(len(self.reads))) - set(self.removed))

    @property
    def unread(self) -> list[int]:
        """The key/value heads that no head reads any more."""
        return sorted(set(self.reads) - {self.reads[head] for head in self.kept})

    @property
    def reads_after(self) -> list[int]:
        """For each head that stays, the key/value head that it reads, among those that stay."""
        read = [self.reads[head] for head in self.kept]
        stay = sorted(set(read))
        return [stay.index(one) for one in read]

    @property
    def even(self) -> bool:
        """Whether the key/value heads that stay are read by as many heads each."""
        return is_even(self.reads_after)


def missing_rows(removal: Removal, made: Sequence[MadeHeads]) -> str | None:
    """What of a removal cannot be cut out, as no output of a linear layer makes it alone.

    Args:
        removal: the heads to remove.
        made: the heads that each linear layer of the attention makes.

    Returns:
        The name of the first such part; None if there is none.
    """
    for head in removal.removed:
        if not any(bool(one.queries[head].any()) for one in made):
            return f"the query of head {head}"
    for head in removal.unread:
        if not any(bool(one.keys_values[head].any()) for one in made):
            return f"key/value head {head}"
    return None


def cut_outputs(linear: nn.Module, removal: Removal, made: MadeHeads) -> None:
    """Cut the outputs of removed heads out of a linear layer before attention.

    Args:
        linear: a linear layer or Conv1D, which is changed.
        removal: the heads to remove.
        made: the heads that its outputs make.
    """
    gone = made.queries[list(removal.removed)].any(dim=0)
    gone = gone | made.keys_values[removal.unread].any(dim=0)
    if bool(gone.any()):
        _keep_outputs(linear, gone)


def _keep_outputs(linear: nn.Module, gone: Bool[Tensor, " row"]) -> None:
    kept = (~gone).nonzero().flatten()
    weight: Tensor = linear.weight.detach()  # type: ignore[operator]
    linear.weight = _parameter(weight[:, kept] if isinstance(linear, Conv1D) else weight[kept])
    if linear.bias is not None:
        linear.bias = _parameter(linear.bias.detach()[kept])  # type: ignore[operator]
    setattr(linear, "nf" if isinstance(linear, Conv1D) else "out_features", len(kept))


def cut_projection(projection: nn.Module, removal: Removal) -> None:
    """Cut removed heads out of an output projection; what they were replaced by becomes its bias.

    Args:
        projection: W_O, a linear layer or Conv1D, which is changed.
        removal: the heads to remove.
    """
    bias = bias_without(projection, removal)
    weights = projection_weights(projection).unflatten(0, (len(removal.reads), -1))
    kept = weights[removal.kept].flatten(0, 1)
    conv = isinstance(projection, Conv1D)
    projection.weight = _parameter(kept if conv else kept.T)
    projection.register_parameter("bias", None if bias is None else _parameter(bias))
    setattr(projection, "nx" if conv else "in_features", len(kept))


def bias_without(projection: nn.Module, removal: Removal) -> Tensor | None:
    """The bias of an output projection once heads are removed.

    Args:
        projection: W_O, with all heads.
        removal: the heads to remove.

    Returns:
        ``(d_model,)``, in the projection's dtype; None if there is none.
    """
    bias: Tensor | None = getattr(projection, "bias", None)
    if removal.means is None:
        return None if bias is None else bias.detach()
    weights = projection_weights(projection)
    removed = list(removal.removed)
    of_heads = weights.unflatten(0, (len(removal.reads), -1))[removed].double()
    # As zeroing does it, in the dtype that the heads' outputs have.
    means = removal.means[removed].to(weights).double()
    written = torch.einsum("hd,hdm->m", means, of_heads)
    return (written if bias is None else written + bias.detach().double()).to(weights.dtype)


def finish_layer(attention: nn.Module, removal: Removal, d_head: int, sinks: str | None) -> None:
    """Make an attention module whose projections were cut compute with the heads that stay.

    Args:
        attention: the module, which is changed.
        removal: the heads that were removed.
        d_head: width of a head's output.
        sinks: the name of its parameter with a number for every head; None without one.
    """
    if sinks is not None:
        setattr(attention, sinks, _parameter(getattr(attention, sinks).detach()[removal.kept]))
    set_counts(attention, removal.reads, removal.reads_after, d_head)
    set_read(attention, None if removal.even else removal.reads_after)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous().clone(), requires_grad=False)
