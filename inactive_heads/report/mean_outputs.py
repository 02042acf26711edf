"""The mean outputs that take the place of heads in a report, from texts that it does not score."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

from inactive_heads.ablation.mean_outputs import mean_head_outputs
from inactive_heads.errors import UserError
from inactive_heads.files import digest_of
from inactive_heads.models.model import Model
from inactive_heads.provenance import as_attrs
from inactive_heads.tasks.texts import load_texts
from inactive_heads.third_party import explained

FILE = "mean_outputs.nc"
"""The file in a report's folder that keeps them."""


def other_texts(source: str, scored: list[str], seed: int) -> list[str]:
    """Texts of a source that are not scored, as many as are or as there are.

    Args:
        source: as for `load_texts`.
        scored: the texts of the source that are scored.
        seed: the seed of the choice.

    Returns:
        The texts.

    Raises:
        UserError: the source has no other texts.
    """
    n = 2 * len(scored) if source == "fineweb-edu" else None
    rest = [text for text in load_texts(source, n=n, seed=seed) if text not in {*scored}]
    if not rest:
        raise UserError(
            f"means are taken over texts that are not scored, and all {len(scored)} texts of "
            f"{source!r} are; give --num-texts below {len(scored)}, or more texts"
        )
    order = np.random.default_rng(seed).permutation(len(rest))
    return [rest[index] for index in order[: len(scored)]]


def kept_means(model: Model, samples: list[list[int]], folder: str | Path) -> xr.DataArray:
    """Every head's mean output on samples; as a run's folder has it, if the run is resumed.

    Computed again, the last digits could differ with the number of samples that are run together,
    and the run would count as another.

    Args:
        model: the model.
        samples: token ids.
        folder: the run's folder, which may not exist yet.

    Returns:
        From `mean_head_outputs`; its attributes say which samples it is of.

    Raises:
        UserError: the file in the folder cannot be read; or as `mean_head_outputs`.
    """
    about = {**as_attrs(model.provenance), "samples": digest_of(samples)}
    path = Path(folder) / FILE
    if path.is_file():
        with explained(f"{str(path)!r} cannot be read", "remove it"):
            found = xr.load_dataarray(path, engine="h5netcdf")
        if found.attrs == about:
            return found
    return mean_head_outputs(model, samples).assign_attrs(about)


def keep_means(means: xr.DataArray, folder: Path) -> None:
    """Write mean outputs to a run's folder, for `kept_means` and for ablations with them.

    Args:
        means: from `kept_means`.
        folder: the run's folder.
    """
    partial = folder / f"{FILE}.part"
    means.to_netcdf(partial, engine="h5netcdf")
    os.replace(partial, folder / FILE)
