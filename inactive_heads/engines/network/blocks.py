"""The output projections of a network's attention layers."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense", "Wo")
"""The names that models give to the output projection, W_O."""


def output_projection(module: nn.Module, width: int) -> nn.Module | None:
    """The output projection W_O of an attention module, by its name.

    Args:
        module: the attention module.
        width: number of the projection's inputs, n_heads * d_head.

    Returns:
        A linear layer or Conv1D; None if no submodule of a known name (`OUTPUT_PROJECTIONS`) has that
        many inputs and unpacked weights.
    """
    children = (getattr(module, name, None) for name in OUTPUT_PROJECTIONS)
    return next((one for one in children if _projects(one, width)), None)


def linear_layers(network: nn.Module, width: int) -> list[nn.Module]:
    """The linear layers and Conv1Ds of a network with a number of inputs.

    Args:
        network: the model.
        width: the number of inputs.

    Returns:
        The layers.
    """
    return [module for module in network.modules() if _projects(module, width)]


def expert_layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network that hold the weights of several experts in one tensor.

    Args:
        network: the model.

    Returns:
        The layers.
    """
    return [
        module
        for module in network.modules()
        if any(weights.ndim == 3 for weights in module.parameters(recurse=False))
    ]


def _projects(module: object, width: int) -> bool:
    return isinstance(module, nn.Linear | Conv1D) and projection_weights(module).shape[0] == width


def projection_weights(projection: nn.Module) -> Tensor:
    """The weights of a linear layer or Conv1D, inputs first.

    Args:
        projection: the layer.

    Returns:
        A view without gradients, ``(input, output)``, in the layer's dtype.
    """
    weight: Tensor = projection.weight.detach()  # type: ignore[operator]
    return weight if isinstance(projection, Conv1D) else weight.T
