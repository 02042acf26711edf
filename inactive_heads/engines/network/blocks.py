"""The output projections of a network's attention layers."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inactive_heads.engines.network.hf_attention import unsupported

OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense", "Wo")
"""The names that models give to the output projection, W_O."""


def output_projection(module: nn.Module, width: int) -> nn.Module:
    """The output projection W_O of an attention module.

    Args:
        module: the attention module.
        width: number of the projection's inputs, n_heads * d_head.

    Returns:
        A linear layer or Conv1D.

    Raises:
        UserError: no submodule of a known name (`OUTPUT_PROJECTIONS`) has that many inputs.
    """
    for name in OUTPUT_PROJECTIONS:
        layer = getattr(module, name, None)
        if isinstance(layer, nn.Linear | Conv1D) and projection_weights(layer).shape[0] == width:
            return layer
    raise unsupported(
        f"a layer {type(module).__name__}",
        f"has no {', '.join(OUTPUT_PROJECTIONS)} with {width} inputs and unpacked weights",
    )


def projection_weights(projection: nn.Module) -> Tensor:
    """The weights of a linear layer or Conv1D, inputs first.

    Args:
        projection: the layer.

    Returns:
        A view without gradients, ``(input, output)``, in the layer's dtype.
    """
    weight: Tensor = projection.weight.detach()  # type: ignore[operator]
    return weight if isinstance(projection, Conv1D) else weight.T
