"""Resolves a model's name to weights, and to the options of a preset or .toml file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.resources import as_file
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from inactive_heads.errors import UserError, nearest, shortened
from inactive_heads.models.presets import PRESETS, Preset, parse_preset, preset_names, read_preset
from inactive_heads.models.weights.adapter import AdaptedCheckpoint, base_of
from inactive_heads.models.weights.bundled import demo_checkpoint
from inactive_heads.models.weights.checkpoint import Checkpoint
from inactive_heads.models.weights.gguf.parts import is_gguf, model_name, models_in
from inactive_heads.models.weights.hub import (
    ADAPTER_CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
    NotOnHub,
    fetch_descriptions,
    fetch_model,
)
from inactive_heads.models.weights.random_weights import Architecture, parse_architecture
from inactive_heads.models.weights.source import DEMO, existing_path, ways_to_give_a_model
from inactive_heads.toml import string_of

Stored = Checkpoint | AdaptedCheckpoint


@dataclass(frozen=True)
class Origin:
    """Weights, and how to run them.

    Attributes:
        weights: stored or random weights.
        preset: what a preset or .toml file says; all defaults without one.
    """

    weights: Stored | Architecture
    preset: Preset = field(default_factory=Preset)


def find_model(
    source: str | Path | None, *, revision: str | None = None, trust_remote_code: bool = False
) -> Origin:
    """Find the weights that a name means, and download them if they are on the hub.

        find_model("demo").weights.name  # 'SmolLM2-135M-Instruct'

    Args:
        source: the first of these that matches: None or "demo" (the bundled model), a .gguf file, a
            .toml file, a folder, a preset, a TransformerLens alias, a name on the Hugging Face hub.
        revision: a branch, tag or commit of a model on the hub; a preset's or the default branch if
            None.
        trust_remote_code: whether Python code that comes with a model may be run.

    Returns:
        The weights, not loaded yet, and how to run them.

    Raises:
        UserError: nothing matches, it cannot be read or downloaded, or ``revision`` is given for a
            model that is not on the hub; the message says what can be given.
    """
    if source in (None, DEMO):
        _no_revision(revision, "the bundled demo model")
        return Origin(demo_checkpoint())
    local = existing_path(source)
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
    """Load the tokenizer that a name means.

    Args:
        source: a folder, a .gguf file, a name on the hub, or "demo" for the bundled model's.
        trust_remote_code: whether Python code that comes with a tokenizer may be run.

    Returns:
        The tokenizer.

    Raises:
        UserError: there is no such tokenizer, or it cannot be read; the message says what can be
            given.
    """
    local = existing_path(source)
    checkpoint: Stored
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


def official_name(name: str) -> str:
    """The hub's name for a TransformerLens alias.

        official_name("gpt2-small")  # 'gpt2'

    Args:
        name: an alias, in any case, or any other name.

    Returns:
        The name on the hub; other names are returned unchanged.
    """
    # TransformerLens takes seconds to import, and only names on the hub need it.
    from transformer_lens.supported_models import MODEL_ALIASES

    for official, aliases in MODEL_ALIASES.items():
        if name.lower() in (alias.lower() for alias in aliases):
            return official
    return name


def _from_path(path: Path, revision: str | None, trust_remote_code: bool) -> Stored:
    _no_revision(revision, f"{path}, which is local")
    if is_gguf(path) and path.is_file():
        return Checkpoint(model_name(path), path.parent, gguf=path.name)
    if path.is_dir() and not (path / "config.json").exists() and (packed := models_in(path)):
        if len(packed) > 1:
            raise UserError(
                f"the folder {path} has {len(packed)} models in .gguf files: give the path of one, "
                f"such as {packed[0]}"
            )
        return _from_path(packed[0], None, trust_remote_code)
    if not path.is_dir():
        raise UserError(
            f"{path} is not a .gguf or .toml file; of safetensors weights, give the folder that also "
            "has their config.json"
        )
    found = Checkpoint(path.resolve().name, path, trust_remote_code=trust_remote_code)
    return _with_adapter(found)


def _from_hub(name: str, revision: str | None, trust_remote_code: bool) -> Stored:
    official = official_name(name)
    try:
        snapshot = fetch_model(official, revision, code=trust_remote_code)
    except NotOnHub as error:
        near = nearest(name, preset_names())
        guess = f"; did you mean {near!r}?" if near else f". Else {ways_to_give_a_model()}"
        raise UserError(
            f"{shortened(name)} is no local file or folder and no preset, and {error}{guess}"
        ) from error
    return _with_adapter(
        Checkpoint(
            official, snapshot.folder, revision=snapshot.commit, trust_remote_code=trust_remote_code
        )
    )


def _with_adapter(found: Checkpoint) -> Stored:
    """The checkpoint in a folder, or what the adapter in the folder is merged into, with it."""
    folder = found.folder
    if not (folder / ADAPTER_CONFIG).exists():
        return found
    base_name = base_of(folder)
    near = folder / base_name  # a path may be relative to the adapter, or to the current folder
    base_path = near if near.is_dir() else Path(base_name)
    whole = any((folder / file).exists() for file in (WEIGHTS, WEIGHTS_INDEX))
    is_here = base_path.is_dir() and base_path.resolve() == folder.resolve()
    if whole and not is_here and base_name != found.name:
        raise UserError(
            f"{folder} has a model and an adapter of {base_name!r}, which the model may already "
            "contain: move the adapter_* files to a folder of their own, and give that folder for "
            "both or this one for the model"
        )
    if not whole and is_here:
        raise UserError(
            f"the adapter {folder} names itself as its base (base_model_name_or_path), and has no "
            f"{WEIGHTS}: write the base's hub name or path there"
        )
    base: Stored = found
    if not whole:
        try:
            base = _base(base_path if base_path.is_dir() else base_name, found)
        except UserError as error:
            raise UserError(f"the base of the adapter {folder.name!r}: {error}") from error
    return AdaptedCheckpoint(found.name, base, folder, found.revision)


def _base(source: str | Path, adapter: Checkpoint) -> Stored:
    local = existing_path(source)
    if local is not None:
        return _from_path(local, None, adapter.trust_remote_code)
    return _from_hub(str(source), None, adapter.trust_remote_code)


def _from_toml(path: Path, revision: str | None, trust_remote_code: bool) -> Origin:
    table = read_preset(path)
    where = path.name
    if "model" not in table and "architecture" not in table:
        raise UserError(
            f'{where} has neither model = "a hub name, folder or .gguf file" nor architecture = '
            '"gpt2" or "llama"'
        )
    if "model" not in table:
        _no_revision(revision, f"{where}, which describes random weights")
        weights = parse_architecture(table, where=where, name=path.stem)
        tokenizer = string_of(table, "tokenizer", where)
        return Origin(weights, Preset(tokenizer=_relative_to(path, tokenizer)))
    preset = parse_preset(table, where)
    stored = _weights_of(preset, path, revision, trust_remote_code)
    return Origin(
        replace(stored, name=preset.name or stored.name),
        replace(preset, tokenizer=_relative_to(path, preset.tokenizer)),
    )


def _weights_of(
    preset: Preset, path: Path, revision: str | None, trust_remote_code: bool
) -> Stored:
    revision = revision or preset.revision
    relative = path.parent / preset.model  # paths in a file are relative to its folder
    local = relative if relative.exists() else existing_path(preset.model)
    if local is None:
        return _from_hub(preset.model, revision, trust_remote_code)
    return _from_path(local, revision, trust_remote_code)


def _relative_to(path: Path, name: str | None) -> str | None:
    """A name in the file ``path``; resolved, if it is a path relative to the file's folder."""
    if name is None or not (path.parent / name).exists():
        return name
    return str(path.parent / name)


def _no_revision(revision: str | None, what: str) -> None:
    if revision is not None:
        raise UserError(f"revision={revision!r} has no meaning for {what}; leave it out")
