"""The table of presets: each model's sizes, and the memory and hardware it needs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from inactive_heads.errors import UserError
from inactive_heads.evaluation.log_likelihood import MAX_LOGITS
from inactive_heads.models.devices import choose_device, choose_dtype
from inactive_heads.models.preset_sizes import Sizes
from inactive_heads.models.presets import (
    PRESETS,
    Preset,
    parse_preset,
    preset_names,
    read_preset,
)

GB = 10**9
BATCH_TOKENS = 8 * 1000
"""The size of the batch that memory is estimated for, in tokens."""

LAPTOP_GB, GPUS_GB = 6, (16, 24, 40, 80)
BESIDE_GB = 1
"""The memory that CUDA itself takes on a GPU."""


class Need(NamedTuple):
    """The memory that a model needs, in bytes.

    Attributes:
        weights: the memory of the weights.
        batch: the memory of a batch of `BATCH_TOKENS` tokens.
    """

    weights: float
    batch: float

    @property
    def total(self) -> float:
        """Both together, in bytes."""
        return self.weights + self.batch


def memory_needed(sizes: Sizes, dtype: torch.dtype) -> Need:
    """An estimate of the memory that a model needs.

    Args:
        sizes: the model's sizes.
        dtype: the dtype of its weights.

    Returns:
        Bytes for the weights and for a batch.
    """
    per_token = sizes.shape.bytes_per_token(dtype.itemsize)
    return Need(sizes.parameters * dtype.itemsize, BATCH_TOKENS * per_token + 4 * MAX_LOGITS)


def hardware_for(need: Need) -> str:
    """The smallest common hardware that a model runs on.

    Args:
        need: the memory that the model needs.

    Returns:
        The hardware in words, such as "24 GB GPU".
    """
    total = need.total / GB
    if total <= LAPTOP_GB:
        return "any laptop"
    enough = [size for size in GPUS_GB if total + BESIDE_GB <= size]
    return f"{enough[0]} GB GPU" if enough else "several GPUs (--device-map auto)"


def find_presets(own: Sequence[str] = ()) -> dict[str, Preset]:
    """The presets of stored models: those of the package, or a user's.

    Args:
        own: .toml files to read instead of the package's presets.

    Returns:
        The presets by name; the package's are sorted by family, then by number of parameters.

    Raises:
        UserError: one of the files cannot be read, or is not a preset of a stored model.
    """
    if own:
        return {Path(file).stem: _read(Path(file)) for file in own}
    found = {}
    for name in preset_names():
        with as_file(PRESETS / f"{name}.toml") as path:
            if "model" in (table := read_preset(path)):
                found[name] = parse_preset(table, path.name)

    def order(name: str) -> tuple[str, int, str]:
        sizes = found[name].sizes
        return name.split("-")[0], sizes.parameters if sizes else 0, name

    return {name: found[name] for name in sorted(found, key=order)}


def preset_table(presets: dict[str, Preset]) -> Table:
    """Presets with their sizes, and the memory and hardware they need.

    Memory is estimated for the weights in the preset's dtype (16 bits for "auto") and 8 inputs of
    1000 tokens.

    Args:
        presets: the presets by name.

    Returns:
        A table to print, one row per preset.
    """
    device = choose_device("auto")
    available = _memory_of(device)
    table = Table(
        title="Presets",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        caption=(
            "★ one of the paper's models. Memory: the weights in that dtype (16 bits for auto) and "
            "8 inputs of 1000 tokens; how many run together follows from what is free. Here: "
            f"{device} with {available / GB:.0f} GB, in the dtype that auto takes there. Licence: accept it "
            "on the hub, then run `hf auth login` or set HF_TOKEN."
        ),
        caption_justify="left",
    )
    for title in ("preset", "layers × heads", "parameters", "dtype", "chat", "memory"):
        right = title in ("parameters", "memory")
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for title in ("enough", "here", "licence"):
        table.add_column(title)
    table.add_column("on the hub", overflow="fold")
    for name, preset in presets.items():
        table.add_row(*_cells(name, preset, device, available))
    return table


def _cells(name: str, preset: Preset, device: torch.device, available: float) -> list[str]:
    shown = f"{name} ★" if preset.paper else name
    chat, gated = ("yes" if yes else "" for yes in (preset.chat_template, preset.gated))
    if (sizes := preset.sizes) is None:
        return [shown, "", "", preset.dtype, chat, "", "", "", gated, preset.model]
    chosen = choose_dtype(preset.dtype, device, narrow=True)
    need = memory_needed(sizes, torch.bfloat16 if preset.dtype == "auto" else chosen)
    taken = memory_needed(sizes, chosen)
    return [
        shown,
        _layers_and_heads(sizes),
        _short(sizes.parameters),
        preset.dtype,
        chat,
        f"{need.total / GB:.1f} GB",
        hardware_for(need),
        "fits" if taken.total <= available else "too big",
        gated,
        preset.model,
    ]


def _layers_and_heads(sizes: Sizes) -> str:
    """Such as "32 × 32 (8 kv)", or "6 of 24 × 8 (2 kv)" of a model with attention in 6 layers."""
    of_layer = sizes.heads.values()
    with_heads = "" if len(of_layer) == sizes.n_layers else f"{len(of_layer)} of "
    heads, groups = (
        ", ".join(str(size) for size in dict.fromkeys(column))
        for column in list(zip(*of_layer, strict=True))[:2]
    )
    shared = "" if groups == heads else f" ({groups} kv)"
    return f"{with_heads}{sizes.n_layers} × {heads}{shared}"


def _read(path: Path) -> Preset:
    preset = parse_preset(read_preset(path), path.name)
    if not preset.model:
        raise UserError(f'{path.name} has no model = "a hub name, folder or .gguf file"')
    return preset


def _memory_of(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total)


def _short(parameters: int) -> str:
    return f"{parameters / GB:#.3g}B" if parameters >= GB else f"{parameters / 10**6:.0f}M"
