"""Proof that weights are numbers: no NaN, no infinity, nothing that was never filled."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inactive_heads.errors import UserError
from inactive_heads.models.weights.stored_tensors import StoredTensor

Key = TypeVar("Key", bound=Hashable)

CHUNK = 1 << 24
"""Numbers that are looked at together where a sum is not finite."""
LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")


class Products:
    """The products of a network's linear layers with their inputs, in a run.

    A product is finite only if every weight in it is: a NaN or an infinity makes every output of its
    row NaN or infinite, even where the input is 0.
    """

    def __init__(self) -> None:
        self._sums: dict[nn.Module, Tensor] = {}

    def add(self, module: nn.Module, output: Tensor) -> None:
        """Note a layer's output, unless it is empty (an expert without tokens) or not the first.

        Args:
            module: a linear layer or Conv1D.
            output: what it has computed.
        """
        if module not in self._sums and output.numel():
            self._sums[module] = output.detach().sum(dtype=torch.float32)

    def proven(self) -> set[nn.Parameter]:
        """The weights and biases that are finite, for their products are."""
        by_device: dict[torch.device, dict[nn.Module, Tensor]] = defaultdict(dict)
        for module, total in self._sums.items():
            by_device[total.device][module] = total
        return {
            weight
            for sums in by_device.values()
            for module in sums.keys() - _not_finite(sums)
            for weight in module.parameters()
        }


@contextmanager
def watch_products(network: nn.Module) -> Iterator[Products]:
    """A context in which the products of a network's linear layers are seen.

    The weights that a first run proves finite need not be read once more, which takes longer than
    that run where weights are many.

    Args:
        network: the model that will run.

    Yields:
        The products, complete once the model has run.
    """
    linear = {module for module in network.modules() if type(module) in (nn.Linear, Conv1D)}
    products = Products()

    def look(module: nn.Module, _args: Any, output: Any) -> None:
        if module in linear:
            products.add(module, output)

    handle = register_module_forward_hook(look)
    try:
        yield products
    finally:
        handle.remove()


def check_finite(
    network: PreTrainedModel,
    name: str,
    stored: Sequence[StoredTensor],
    proven: AbstractSet[nn.Parameter] = frozenset(),
) -> None:
    """Refuse a network with a weight that is NaN, infinite or not filled.

    One sum for each weight, on its device: a sum is finite only if everything in it is. Only where it
    is not (large numbers can also exceed the dtype), each number is looked at.

    Args:
        network: the network, on its devices.
        name: the model's name, used in error messages.
        stored: the tensors it was loaded from, to tell damage from a dtype that is too narrow; empty
            if unknown.
        proven: weights that are known to be finite, from `Products.proven`.

    Raises:
        UserError: the message names the tensor, its layer and the value.
    """
    sums: dict[torch.device, dict[str, Tensor]] = defaultdict(dict)
    for key, weight in network.named_parameters():
        if weight.is_meta:
            raise UserError(f"{name!r}: the weight {key} was never filled; get the model again")
        if weight.is_floating_point() and weight not in proven:
            sums[weight.device][key] = weight.detach().sum()
    buffers = {
        key: buffer
        for key, buffer in network.named_buffers()
        if buffer.is_floating_point() and not buffer.is_meta
    }
    suspects = [key for found in sums.values() for key in _not_finite(found)]
    for key in suspects:
        weight = network.get_parameter(key)
        if not all(bool(part.isfinite().all()) for part in _chunks(weight)):
            raise _problem(key, weight, name, stored) from None
    for key, buffer in buffers.items():
        frequencies = key.endswith("inv_freq")  # other buffers may be masks of -inf
        if bool(buffer.isnan().any()) or (frequencies and not bool(buffer.isfinite().all())):
            raise UserError(
                f"{name!r}: {key} is not a finite number with its configuration (rope_theta, "
                "rope scaling); get the config.json that belongs to the weights"
            )


def _not_finite(sums: dict[Key, Tensor]) -> list[Key]:
    """The keys whose sum is not finite, with one transfer from the device."""
    if not sums:
        return []
    finite = torch.stack([one.float() for one in sums.values()]).isfinite().tolist()
    return [key for key, fine in zip(sums, finite, strict=True) if not fine]


def _chunks(weight: Tensor) -> Iterable[Tensor]:
    return weight.detach().reshape(-1).split(CHUNK)


def _problem(key: str, weight: Tensor, name: str, stored: Sequence[StoredTensor]) -> UserError:
    dtype = str(weight.dtype).removeprefix("torch.")
    largest = torch.finfo(weight.dtype).max
    for one in stored:
        values = one.read()
        if not values.is_floating_point():
            continue
        values = values.double() if values.dtype == torch.float64 else values.float()
        where, finite = _place(one.name), values.isfinite()
        if not bool(finite.all()):
            bad = values[~finite][0].item()
            return UserError(
                f"the weights of {name!r} are damaged: {one.name}{where} has {int((~finite).sum())} "
                f"values that are NaN or infinite, such as {bad}; get the model again"
            )
        top = float(values.abs().max()) if values.numel() else 0.0
        # Rounding: a value just above the largest number is rounded down to it.
        if not bool(torch.tensor(top, dtype=values.dtype).to(weight.dtype).isfinite()):
            wider = [
                f'dtype="{other}"'
                for other in ("bfloat16", "float32", "float64")
                if torch.finfo(getattr(torch, other)).max > top
            ]
            return UserError(
                f"{name!r}: {one.name}{where} has the value {top:g}, and {dtype} ends at "
                f"{largest:g}; give {' or '.join(wider[:2])}"
            )
    return UserError(
        f"{name!r}: {key}{_place(key)} has NaN or infinite values in {dtype}; the file may be damaged, "
        'or the dtype too narrow: try dtype="float32", or get the model again'
    )


def _place(key: str) -> str:
    found = LAYER.search(key)
    return f" (layer {found[1]})" if found else ""
