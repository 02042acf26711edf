"""A tiny model of every preset: its architecture and head counts, and heads 8 wide."""

from __future__ import annotations

from functools import cache

from transformers import PreTrainedModel

from helpers.tiny_architectures import tiny_architecture
from inactive_heads.cli.preset_table import find_presets

WIDTH = 8


@cache
def preset_models() -> dict[str, list[str]]:
    """The presets by architecture, head counts, and whether heads fill the stream, as a name."""
    found: dict[str, list[str]] = {}
    for name, preset in find_presets().items():
        if preset.sizes is not None:
            shape = preset.sizes.shape
            fills = "" if shape.n_heads * shape.d_head == shape.d_model else ", another stream"
            heads = f"{shape.n_heads} heads, {shape.n_key_value_heads} of keys and values"
            found.setdefault(f"{preset.sizes.architecture}: {heads}{fills}", []).append(name)
    return found


def tiny_preset(name: str, attention: str | None = None) -> PreTrainedModel:
    """The tiny model of a name of `preset_models`; ``attention`` as in `tiny_architecture`."""
    sizes = find_presets()[preset_models()[name][0]].sizes
    assert sizes is not None
    shape = sizes.shape
    fills = shape.n_heads * shape.d_head == shape.d_model
    stream = shape.n_heads * (WIDTH if fills else WIDTH + 4)
    heads = dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), shape.n_heads)
    streams = dict.fromkeys(("hidden_size", "n_embd", "d_model"), stream)
    return tiny_architecture(
        sizes.architecture,
        attention,
        num_key_value_heads=shape.n_key_value_heads,
        head_dim=WIDTH,
        **heads,
        **streams,
    )
