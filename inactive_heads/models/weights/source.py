"""What a user names as a model: a file, a folder, a preset, or a name on the hub.

Nothing here imports anything that is slow to load, so that a command can refuse its options at once.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import as_file
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.models.presets import PRESETS, parse_preset, preset_names, read_preset

DEMO = "demo"
"""The bundled model's name, for use among other models; by itself it needs no name."""


def ways_to_give_a_model() -> str:
    """The part of an error message that lists what `find_model` accepts.

    Returns:
        One line.
    """
    return (
        "give a name on the hub (openai-community/gpt2), a folder with config.json and safetensors, "
        "a .gguf file, a .toml file, a preset (gpt2-style-tiny; `inactive-heads models` lists others), "
        "or nothing for the bundled demo model"
    )


def existing_path(source: str | Path) -> Path | None:
    """The file or folder that is meant.

    Args:
        source: the path or name of a model.

    Returns:
        The path, which exists; None if ``source`` can only be a name.

    Raises:
        UserError: it is empty, or looks like a path and there is no such file or folder.
    """
    if not str(source).strip():
        raise UserError(f"the model's name is empty; {ways_to_give_a_model()}")
    path = Path(source)
    # Text that cannot be a path at all (too long, an unknown user's home) is a name.
    with suppress(OSError, ValueError, RuntimeError):
        path = path.expanduser()
        if path.exists():
            return path
    looks_local = str(source).startswith(("/", ".", "~")) or path.suffix.lower() in (
        ".gguf",
        ".toml",
        ".safetensors",
    )
    if isinstance(source, Path) or looks_local:
        raise UserError(f"there is no file or folder {str(source)!r}; {ways_to_give_a_model()}")
    return None


def check_source(source: str | Path | None) -> None:
    """Check what a user names as a model, as far as that is possible without reading its weights.

    Args:
        source: as for `load_model`.

    Raises:
        UserError: there is no such file or folder, or a preset has an unknown key or a value of the
            wrong type.
    """
    if source is None or source == DEMO:
        return
    path = existing_path(source)
    if path is not None and path.suffix == ".toml":
        _check_preset(path)
    elif path is None and str(source) in preset_names():
        with as_file(PRESETS / f"{source}.toml") as file:
            _check_preset(file)


def _check_preset(path: Path) -> None:
    table = read_preset(path)
    if "model" in table:  # else it describes random weights
        parse_preset(table, path.name)
