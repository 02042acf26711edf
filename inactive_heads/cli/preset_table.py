"""The presets as a table: what each model is, and what it takes to run it."""

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
from inactive_heads.models.presets import (
    PRESETS,
    Preset,
    Sizes,
    parse_preset,
    preset_names,
)
from inactive_heads.toml import read_toml

GB = 10**9
BATCH_TOKENS = 8 * 1000
"""Tokens run together, for which memory is told."""

LAPTOP_GB, GPUS_GB = 6, (16, 24, 40, 80)
BESIDE_GB = 1
"""What a GPU's own library takes."""


class Need(NamedTuple):
    """Memory in bytes: the weights, and what `BATCH_TOKENS` tokens take while they run."""

    weights: float
    batch: float

    @property
    def total(self) -> float:
        return self.weights + self.batch


def memory_needed(sizes: Sizes, dtype: torch.dtype) -> Need:
    """What a model takes in a floating-point type."""
    per_token = sizes.shape.bytes_per_token(dtype.itemsize)
    return Need(sizes.parameters * dtype.itemsize, BATCH_TOKENS * per_token + 4 * MAX_LOGITS)


def hardware_for(need: Need) -> str:
    """The smallest of the usual machines that holds it, in words."""
    total = need.total / GB
    if total <= LAPTOP_GB:
        return "any laptop"
    enough = [size for size in GPUS_GB if total + BESIDE_GB <= size]
    return f"{enough[0]} GB GPU" if enough else "several GPUs (--device-map auto)"


def find_presets(own: Sequence[str] = ()) -> dict[str, Preset]:
    """The stored models among the presets that come with the package, or those in .toml files.

    Raises:
        UserError: one of the files is no preset of a stored model.
    """
    if own:
        return {Path(file).stem: _read(Path(file)) for file in own}
    found = {}
    for name in preset_names():
        with as_file(PRESETS / f"{name}.toml") as path:
            if "model" in read_toml(path):
                found[name] = _read(path)

    def order(name: str) -> tuple[str, int, str]:  # a family's together, small ones first
        sizes = found[name].sizes
        return name.split("-")[0], sizes.parameters if sizes else 0, name

    return {name: found[name] for name in sorted(found, key=order)}


def preset_table(presets: dict[str, Preset]) -> Table:
    """The presets with their sizes, and what they need.

    Memory is that of the weights in the preset's dtype (16 bits for "auto") and of 8 inputs of
    1000 tokens.
    """
    place = choose_device("auto")
    here = _memory_of(place)
    table = Table(
        title="Presets",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        caption=(
            "★ one of the paper's models. Memory: the weights in that dtype (16 bits for auto) and "
            "8 inputs of 1000 tokens; how many run together follows from what is free. Here: "
            f"{place} with {here / GB:.0f} GB, in the dtype that auto takes there. Licence: accept it "
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
        table.add_row(*_cells(name, preset, place, here))
    return table


def _cells(name: str, preset: Preset, place: torch.device, here: float) -> list[str]:
    shown = f"{name} ★" if preset.paper else name
    chat, gated = ("yes" if yes else "" for yes in (preset.chat_template, preset.gated))
    if (sizes := preset.sizes) is None:
        return [shown, "", "", preset.dtype, chat, "", "", "", gated, preset.model]
    chosen = choose_dtype(preset.dtype, place, narrow=True)
    need = memory_needed(sizes, torch.bfloat16 if preset.dtype == "auto" else chosen)
    taken = memory_needed(sizes, chosen)
    groups = "" if sizes.n_key_value_heads == sizes.n_heads else f" ({sizes.n_key_value_heads} kv)"
    return [
        shown,
        f"{sizes.n_layers} × {sizes.n_heads}{groups}",
        _short(sizes.parameters),
        preset.dtype,
        chat,
        f"{need.total / GB:.1f} GB",
        hardware_for(need),
        "fits" if taken.total <= here else "too big",
        gated,
        preset.model,
    ]


def _read(path: Path) -> Preset:
    preset = parse_preset(read_toml(path), path.name)
    if not preset.model:
        raise UserError(f'{path.name} has no model = "a hub name, folder or .gguf file"')
    return preset


def _memory_of(place: torch.device) -> float:
    if place.type == "cuda":
        return float(torch.cuda.get_device_properties(place).total_memory)
    return float(psutil.virtual_memory().total)


def _short(parameters: int) -> str:
    return f"{parameters / GB:#.3g}B" if parameters >= GB else f"{parameters / 10**6:.0f}M"
