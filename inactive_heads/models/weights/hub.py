"""Downloads repositories of the Hugging Face hub to local folders, each file once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from inactive_heads.errors import UserError
from inactive_heads.third_party import explained

DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja")
CODE = ("*.py",)
SUBFOLDERS = "*/*"  # never read here: other formats, variants and original weights
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What PEFT calls its files."""


class NotOnHub(UserError):
    """The hub has no repository of this name, or cannot be reached."""


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        folder: the local folder with its files.
        commit: the commit's hash.
    """

    folder: Path
    commit: str


def fetch_model(name: str, revision: str | None = None, *, code: bool = False) -> Snapshot:
    """Download a model's or adapter's configuration, tokenizer and safetensors weights.

    Files in the hub's cache are not downloaded again, and are used if the hub cannot be reached.

    Args:
        name: the repository, such as "openai-community/gpt2".
        revision: a branch, tag or commit hash; the default branch if None.
        code: download the repository's own Python files too. They are not run here.

    Returns:
        The repository at the commit that was downloaded.

    Raises:
        NotOnHub: there is no such repository, or the hub cannot be reached and the cache has no
            copy.
        UserError: there is no such revision, access is not granted, there are no safetensors
            weights, or the download failed.
    """
    snapshot = fetch_descriptions(name, revision, code=code)
    index = snapshot.folder / WEIGHTS_INDEX
    adapter = (snapshot.folder / ADAPTER_CONFIG).exists()
    files = [WEIGHTS, *([ADAPTER_WEIGHTS] if adapter else [])]
    if index.exists():
        with explained(f"{index} cannot be read", "delete it and try again"):
            shards = set(json.loads(index.read_text())["weight_map"].values())
            files = sorted(shards) + files[1:]
    _download(name, snapshot.commit, files)
    if not adapter and not index.exists() and not (snapshot.folder / WEIGHTS).exists():
        raise UserError(
            f"the repository {name!r} has no {WEIGHTS}: weights in pickle files (pytorch_model.bin) "
            "are refused because loading them can run code. Convert it at "
            "https://huggingface.co/spaces/safetensors/convert and give the new revision; of a "
            "repository of GGUF files, download one and give its path"
        )
    return snapshot


def fetch_descriptions(name: str, revision: str | None = None, *, code: bool = False) -> Snapshot:
    """Download a model's small files: configuration and tokenizer.

    Args:
        name: the repository, such as "openai-community/gpt2".
        revision: a branch, tag or commit hash; the default branch if None.
        code: download the repository's own Python files too. They are not run here.

    Returns:
        The repository at the commit that was downloaded.

    Raises:
        NotOnHub: there is no such repository, or the hub cannot be reached and the cache has no
            copy.
        UserError: there is no such revision, access is not granted, or the download failed.
    """
    folder = _download(name, revision, [*DESCRIPTIONS, *(CODE if code else ())])
    return Snapshot(folder, folder.name)


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    wanted = f"{name!r} at revision {revision!r}" if revision else repr(name)
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=[SUBFOLDERS]
        )
    except HFValidationError as error:
        raise NotOnHub(f"{name!r} is not a possible name on the Hugging Face hub") from error
    except GatedRepoError as error:  # a subclass of RepositoryNotFoundError, so it comes first
        raise UserError(
            f"{wanted} is gated: ask for access at https://huggingface.co/{name}, then run "
            "`hf auth login` (`huggingface-cli login`) or set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise NotOnHub(
            f"the Hugging Face hub has no repository {name!r}; if it is private, run "
            "`hf auth login` (`huggingface-cli login`) or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"the repository {name!r} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        reason = (
            "offline mode is on (HF_HUB_OFFLINE)"
            if constants.HF_HUB_OFFLINE
            else f"it cannot be reached ({_cause(error)})"
        )
        raise NotOnHub(
            f"{wanted} is not in the cache of the Hugging Face hub ({constants.HF_HUB_CACHE}), "
            f"and {reason}"
        ) from error
    except Exception as error:  # errors of proxies and transfers have no common class
        raise UserError(f"downloading {wanted} failed: {_cause(error)}") from error
    return Path(folder)


def _cause(error: BaseException) -> str:
    """The innermost reason, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
