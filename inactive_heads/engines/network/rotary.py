"""Rotary angles that depend on an input's length: each input of a batch gets its own.

transformers chooses the angles of two kinds of rotary embedding by the longest input of a call.
"longrope" (Phi-3) has one set of angles for inputs up to the length of its first training, and
another for longer ones. "dynamic" has a set of its own for every length above the context. It also
keeps the angles of a call for later ones. Here, an input's angles are those of a call on it alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

KEPT_BETWEEN_CALLS = ("inv_freq", "max_seq_len_cached", "attention_scaling")
"""How the names end of what a rotary embedding keeps from one call to the next."""


class RotaryAngles:
    """The rotary embeddings of a network whose angles depend on an input's length.

    Args:
        network: the model.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = [module for module in network.modules() if _kinds(module)]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._modules)

    def kind(self, length: int) -> Hashable:
        """What the angles of an input depend on beside positions.

        Args:
            length: the input's length, in tokens.

        Returns:
            A value that is equal for lengths with the same angles.
        """
        return tuple(
            length > border if kind == "longrope" else max(length, border)
            for module in self._modules
            for kind, border in _kinds(module).values()
        )

    @contextmanager
    def by_input(self, lengths: Sequence[int]) -> Iterator[None]:
        """A context in which every input of a batch gets the angles of its own length.

        What the modules keep between calls is restored afterwards.

        Args:
            lengths: each input's length, in tokens.
        """
        groups: dict[Hashable, list[int]] = {}
        for row, length in enumerate(lengths):
            groups.setdefault(self.kind(length), []).append(row)
        rows = list(groups.values())
        with ExitStack() as stack:
            for module in self._modules:
                stack.callback(_restore, module, _kept(module))
                hook = partial(_angles_by_group, groups=rows, lengths=lengths)
                handle = module.register_forward_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            yield


def _kinds(module: nn.Module) -> dict[str, tuple[str, int]]:
    """The kind and border of each set of angles that depends on length, by its name's prefix."""
    # TransformerLens's components pass on the attributes of the modules that they wrap.
    declared, config = vars(module).get("rope_type"), getattr(module, "config", None)
    by_type = declared if isinstance(declared, Mapping) else {None: declared}
    found: dict[str, tuple[str, int]] = {}
    for layer_type, kind in by_type.items():
        prefix = "" if layer_type is None else f"{layer_type}_"
        parameters = getattr(config, "rope_parameters", None) or {}
        own = parameters if layer_type is None else parameters[layer_type]
        # PhiMoE multiplies the angles of any kind by one factor up to the border, another above.
        if kind == "longrope" or (kind not in (None, "default") and "long_mscale" in own):
            found[prefix] = ("longrope", int(own["original_max_position_embeddings"]))
        elif isinstance(kind, str) and "dynamic" in kind:
            found[prefix] = (kind, int(module.original_max_seq_len))  # type: ignore[arg-type]
    return found


def _angles_by_group(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any,
    *,
    groups: Sequence[Sequence[int]],
    lengths: Sequence[int],
) -> Any:
    """Replaces a module's angles by those of every group of inputs, computed apart."""
    arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    positions: Tensor = arguments["position_ids"]
    positions = positions.expand(*positions.shape[:-2], len(lengths), positions.shape[-1])
    found: list[tuple[Tensor, ...]] = []
    for rows in groups:
        last = torch.tensor([lengths[row] - 1 for row in rows], device=positions.device)
        # The positions of padding must not count.
        own = positions[..., rows, :].minimum(last[:, None])
        _reset(module)
        angles = module.forward(**{**arguments, "position_ids": own})
        found.append(angles if isinstance(angles, tuple) else (angles,))
    order = torch.tensor([row for rows in groups for row in rows]).argsort()
    parts = tuple(torch.cat(part)[order.to(part[0].device)] for part in zip(*found, strict=True))
    return parts if isinstance(output, tuple) else parts[0]


def _reset(module: nn.Module) -> None:
    """Puts a module into the state in which it was made."""
    for prefix in _kinds(module):
        original, current = (
            getattr(module, f"{prefix}{name}") for name in ("original_inv_freq", "inv_freq")
        )
        setattr(module, f"{prefix}inv_freq", original.to(current.device).clone())
        for name in ("max_seq_len_cached", f"{prefix}max_seq_len_cached"):
            if hasattr(module, name):
                setattr(module, name, module.original_max_seq_len)


def _kept(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """What a module keeps between calls: by name, the object and a copy of its contents."""
    everything = {**vars(module), **module._buffers}
    return {
        name: (value, value.clone() if isinstance(value, Tensor) else value)
        for name, value in everything.items()
        if name.endswith(KEPT_BETWEEN_CALLS)
    }


def _restore(module: nn.Module, kept: Mapping[str, tuple[Any, Any]]) -> None:
    for name in _kept(module):
        if name not in kept:
            delattr(module, name)
    for name, (value, contents) in kept.items():
        if isinstance(value, Tensor):
            value.copy_(contents)
        setattr(module, name, value)
