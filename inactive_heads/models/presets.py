"""Presets: TOML files that name a model and how to run it.

base = "smollm2-135m"    # another preset, whose keys hold where this file has none
model = "HuggingFaceTB/SmolLM2-135M-Instruct"   # a hub name, folder or .gguf file
name = "SmolLM2-135M-Instruct"   # the name in results; the model's own by default
dtype = "bfloat16"       # default "auto"
revision = "main"        # a branch, tag or commit on the hub
bos = "auto"
tokenizer = "demo"       # if not the model's own
chat_template = true     # write prompts by the tokenizer's chat template; default false
chat_template_args = { enable_thinking = false }  # arguments of the template
batch_size = 4           # inputs per batch unless the command says otherwise; default "auto"
gated = true             # the hub requires accepting its licence
paper = true             # one of the paper's models

[sizes]                  # shown by `inactive-heads models` before a download
architecture = "llama"   # transformers' model_type
parameters = 135e6
n_layers = 30
n_heads = 9              # or a list, if layers differ: see `preset_sizes`
n_key_value_heads = 3
d_head = 64
d_model = 576
d_mlp = 1536
n_ctx = 8192
d_vocab = 49152
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError, nearest
from inactive_heads.models.preset_sizes import Sizes, parse_sizes
from inactive_heads.toml import read_toml, string_of

PRESETS = files("inactive_heads") / "presets"


@dataclass(frozen=True)
class Preset:
    """A preset: a model and how to run it.

    Attributes:
        model: a hub name, folder or .gguf file; empty for a model that no preset names.
        name: the model's name in results; its own if None.
        dtype: "auto" or a name in `DTYPES`.
        revision: a branch, tag or commit on the hub; the default branch if None.
        bos: whether a text starts with the BOS token: "auto", "on" or "off".
        tokenizer: a folder, hub name or "demo"; the model's own if None.
        chat_template: whether prompts are written by the tokenizer's chat template.
        chat_template_args: arguments of the template.
        batch_size: inputs per batch unless a call says otherwise, or "auto".
        gated: whether the hub requires accepting the model's licence.
        paper: whether it is one of the paper's models.
        sizes: shown before the model is downloaded; None if not given.
    """

    model: str = ""
    name: str | None = None
    dtype: str = "auto"
    revision: str | None = None
    bos: str = "auto"
    tokenizer: str | None = None
    chat_template: bool = False
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | str = "auto"
    gated: bool = False
    paper: bool = False
    sizes: Sizes | None = None


def preset_names() -> list[str]:
    """The presets that come with the package.

    Returns:
        Their names, sorted.
    """
    return sorted(
        file.name[: -len(".toml")] for file in PRESETS.iterdir() if file.name.endswith(".toml")
    )


def read_preset(path: Path) -> dict[str, Any]:
    """The table of a .toml file, with the keys of the preset that it is based on.

    Args:
        path: the file. Its ``base``, if it has one, is the name of a preset that comes with the
            package.

    Returns:
        The parsed table, without ``base``.

    Raises:
        UserError: the file cannot be read, or its base is no preset of a stored model.
    """
    table = read_toml(path)
    if "base" not in table:
        return table
    base = string_of(table, "base", path.name)
    if base not in preset_names():
        near = nearest(base, preset_names())
        guess = f"; did you mean {near!r}?" if near else ""
        raise UserError(f"{path.name}: base = {base!r} is no preset of the package{guess}")
    with as_file(PRESETS / f"{base}.toml") as file:
        below = read_preset(file)
    if "model" not in below:
        raise UserError(f"{path.name}: base = {base!r} describes random weights; give another")
    return {**below, **{key: value for key, value in table.items() if key != "base"}}


def parse_preset(table: dict[str, Any], where: str) -> Preset:
    """The preset that a TOML table describes.

        parse_preset({"model": "gpt2", "dtype": "float32"}, "gpt2.toml")

    Args:
        table: the parsed table; the module's docstring explains its keys.
        where: the file's name, used in error messages.

    Returns:
        The preset, with defaults for keys that are absent.

    Raises:
        UserError: a key is unknown, or its value has the wrong type; the message names both.
    """
    known = [one.name for one in fields(Preset)]
    for key, value in table.items():
        if key not in known:
            raise UserError(
                f"{where}: {key} = {value!r} is not a key beside model; the keys are "
                f"{', '.join(known)}"
            )
    given: dict[str, Any] = dict(table)
    for key in ("model", "name", "dtype", "revision", "bos", "tokenizer"):
        string_of(table, key, where)
    for key in ("chat_template", "gated", "paper"):
        if not isinstance(table.get(key, False), bool):
            raise UserError(f"{where}: {key} = {table[key]!r}; give true or false")
    for key in ("chat_template_args", "sizes"):
        if not isinstance(table.get(key, {}), dict):
            raise UserError(f"{where}: {key} = {table[key]!r}; give a table of names and values")
    batch_size = table.get("batch_size", "auto")
    if batch_size != "auto" and not (type(batch_size) is int and batch_size > 0):
        raise UserError(
            f'{where}: batch_size = {batch_size!r}; give a whole number above 0, or "auto"'
        )
    if "sizes" in table:
        given["sizes"] = parse_sizes(table["sizes"], where)
    return Preset(**given)
