"""What a name given for a model means: which weights, and the options that come with them."""

from __future__ import annotations

import difflib
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from transformer_lens.supported_models import MODEL_ALIASES
from transformers import PreTrainedTokenizerBase

from inactive_heads.architectures import Architecture, parse_architecture, text_of
from inactive_heads.checkpoints import Checkpoint
from inactive_heads.demo import demo_checkpoint
from inactive_heads.errors import UserError
from inactive_heads.hub import NotOnHub, fetch_descriptions, fetch_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = files("inactive_heads") / "presets"
DEMO = "demo"
"""The bundled model's name among others; alone it need not be named."""

MODEL_KEYS = ("model", "name", "revision", "dtype", "bos", "tokenizer")


@dataclass(frozen=True)
class Origin:
    """Weights, and the options that a preset or .toml file gives with them.

    ``tokenizer`` names one to use instead of the weights' own: a folder, a hub name or "demo".
    """

    weights: Checkpoint | Architecture
    dtype: str = "auto"
    bos: str = "auto"
    tokenizer: str | None = None


def find_model(
    source: str | Path | None, *, revision: str | None = None, trust_remote_code: bool = False
) -> Origin:
    """The weights that ``source`` names; those of the hub are downloaded.

    In this order: None or "demo" (the bundled model), a .gguf file, a .toml file, a folder, a
    preset, a TransformerLens alias, a name on the Hugging Face hub.

    Raises:
        UserError: none of them, or it cannot be read; the message says what can be given.
    """
    if source in (None, DEMO):
        _no_revision(revision, "the bundled demo model")
        return Origin(demo_checkpoint())
    local = _existing_path(source)
    if local is not None and local.suffix == ".toml":
        return _from_toml(local, revision, trust_remote_code)
    if local is not None:
        return Origin(_from_path(local, revision, trust_remote_code))
    name = str(source)
    if name in preset_names():
        with as_file(PRESETS / f"{name}.toml") as path:
            return _from_toml(path, revision, trust_remote_code)
    return Origin(_from_hub(name, revision, trust_remote_code))


def find_tokenizer(
    source: str | Path, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder or .gguf file, of a name on the hub, or "demo" (the bundled).

    Raises:
        UserError: there is none; the message says what can be given.
    """
    local = _existing_path(source)
    if source == DEMO:
        checkpoint = demo_checkpoint()
    elif local is not None:
        checkpoint = _from_path(local, None, trust_remote_code)
    else:
        name = official_name(str(source))
        snapshot = fetch_descriptions(name, code=trust_remote_code)
        checkpoint = Checkpoint(
            name, snapshot.folder, revision=snapshot.commit, trust_remote_code=trust_remote_code
        )
    tokenizer = checkpoint.tokenizer()
    if tokenizer is None:
        raise UserError(f"tokenizer={str(source)!r} has no tokenizer files; give another")
    return tokenizer


def preset_names() -> list[str]:
    """The names of the presets that come with the package."""
    return sorted(
        file.name[: -len(".toml")] for file in PRESETS.iterdir() if file.name.endswith(".toml")
    )


def official_name(name: str) -> str:
    """The hub's name for a TransformerLens alias; any other name as it is."""
    for official, aliases in MODEL_ALIASES.items():
        if name.lower() in (alias.lower() for alias in aliases):
            return official
    return name


def ways_to_give_a_model() -> str:
    """One line that says what `find_model` takes."""
    return (
        "give a name on the Hugging Face hub (openai-community/gpt2), a folder with config.json and "
        "safetensors weights, a .gguf file, a .toml file, a preset "
        f"({', '.join(preset_names())}), or nothing for the bundled demo model"
    )


def _existing_path(source: str | Path) -> Path | None:
    """The file or folder meant, or None for what can only be a name."""
    if not str(source).strip():
        raise UserError(f"the model's name is empty; {ways_to_give_a_model()}")
    path = Path(source)
    # Texts that cannot be a path at all (too long, an unknown user's home) are no path.
    with suppress(OSError, ValueError, RuntimeError):
        path = path.expanduser()
        if path.exists():
            return path
    looks_local = str(source).startswith(("/", ".", "~")) or path.suffix in (
        ".gguf",
        ".toml",
        ".safetensors",
    )
    if isinstance(source, Path) or looks_local:
        raise UserError(f"there is no file or folder {str(source)!r}; {ways_to_give_a_model()}")
    return None


def _from_path(path: Path, revision: str | None, trust_remote_code: bool) -> Checkpoint:
    _no_revision(revision, f"{path}, which is local")
    if path.suffix == ".gguf" and path.is_file():
        return Checkpoint(path.stem, path.parent, gguf=path.name)
    if not path.is_dir():
        raise UserError(
            f"{path} is not a .gguf or .toml file; of safetensors weights, give the folder that also "
            "has their config.json"
        )
    return Checkpoint(path.resolve().name, path, trust_remote_code=trust_remote_code)


def _from_hub(name: str, revision: str | None, trust_remote_code: bool) -> Checkpoint:
    official = official_name(name)
    try:
        snapshot = fetch_model(official, revision, code=trust_remote_code)
    except NotOnHub as error:
        near = difflib.get_close_matches(name, preset_names(), n=1, cutoff=0.7)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(
            f"{name!r} is no local file or folder and no preset{guess}; as a name on the Hugging "
            f"Face hub: {error}. Else {ways_to_give_a_model()}"
        ) from error
    return Checkpoint(
        official, snapshot.folder, revision=snapshot.commit, trust_remote_code=trust_remote_code
    )


def _from_toml(path: Path, revision: str | None, trust_remote_code: bool) -> Origin:
    table = _read_toml(path)
    where = path.name
    if "model" not in table and "architecture" not in table:
        raise UserError(
            f'{where} has neither model = "a hub name, folder or .gguf file" nor architecture = '
            '"gpt2" or "llama"'
        )
    tokenizer = text_of(table, "tokenizer", where)
    if tokenizer is not None and (path.parent / tokenizer).exists():
        tokenizer = str(path.parent / tokenizer)
    if "model" not in table:
        _no_revision(revision, f"{where}, which describes random weights")
        return Origin(parse_architecture(table, where=where, name=path.stem), tokenizer=tokenizer)
    for key in table:
        if key not in MODEL_KEYS:
            raise UserError(
                f"{where}: {key} = {table[key]!r} is not a key beside model; the keys are "
                f"{', '.join(MODEL_KEYS)}"
            )
    weights = _weights_of(table, path, revision, trust_remote_code)
    return Origin(
        replace(weights, name=text_of(table, "name", where) or weights.name),
        dtype=text_of(table, "dtype", where) or "auto",
        bos=text_of(table, "bos", where) or "auto",
        tokenizer=tokenizer,
    )


def _weights_of(
    table: dict[str, Any], path: Path, revision: str | None, trust_remote_code: bool
) -> Checkpoint:
    named = text_of(table, "model", path.name) or ""
    revision = revision or text_of(table, "revision", path.name)
    beside = path.parent / named  # paths in a file are meant from where it lies
    local = beside if beside.exists() else _existing_path(named)
    if local is None:
        return _from_hub(named, revision, trust_remote_code)
    return _from_path(local, revision, trust_remote_code)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable TOML file: {error}") from error


def _no_revision(revision: str | None, what: str) -> None:
    if revision is not None:
        raise UserError(f"revision={revision!r} has no meaning for {what}; leave it out")
