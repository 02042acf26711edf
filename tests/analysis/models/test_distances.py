"""Wasserstein distances of score distributions, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from inactive_heads.analysis import layer_distances, model_distances, score_distances
from inactive_heads.analysis.models.distances import wasserstein
from inactive_heads.errors import UserError

sample = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30)


@given(sample, sample)
def test_wasserstein_is_scipy_s(first, second):
    found = wasserstein(np.sort(first), np.sort(second))
    assert found == pytest.approx(wasserstein_distance(first, second), rel=1e-9, abs=1e-9)


def test_wasserstein_by_hand():
    # 0, 1 against 0, 0, 3: quantile functions differ by 0 up to 1/2, 1 up to 2/3, 2 up to 1.
    assert wasserstein(np.array([0.0, 1]), np.array([0.0, 0, 3])) == pytest.approx(1 / 6 + 2 / 3)
    assert np.isnan(wasserstein(np.array([]), np.array([1.0])))


def scores_of(values: np.ndarray, names: list[str]) -> xr.DataArray:
    dims = ("score", "sample", "layer", "head")
    layers = range(values.shape[2])
    return xr.DataArray(values, dims=dims, coords={"score": names, "layer": list(layers)})


@pytest.fixture
def models() -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(2, 3, 4, 5)), "b": rng.gamma(2, size=(2, 7, 4, 5))}
    values["b"][0, 0, 0, 0] = np.nan
    third = rng.normal(size=(1, 3, 2, 2))
    found = {label: scores_of(one, ["A", "B"]) for label, one in values.items()}
    return found | {"c": scores_of(third, ["B"])}


def test_distances_of_models(models):
    found = model_distances(models)
    assert found.dims == ("score", "model", "other")
    np.testing.assert_array_equal(found, found.transpose("score", "other", "model"))
    for score in ("A", "B"):
        for one in models:
            for other in models:
                value = float(found.sel(score=score, model=one, other=other))
                if score == "A" and "c" in (one, other):
                    assert np.isnan(value), "a model without the score has no distance"
                    continue
                sides = [models[m].sel(score=score).to_numpy().ravel() for m in (one, other)]
                sides = [side[np.isfinite(side)] for side in sides]
                assert value == pytest.approx(wasserstein_distance(*sides))
    assert score_distances(models["a"], models["b"])["A"] == pytest.approx(
        float(found.sel(score="A", model="a", other="b"))
    )


def test_distances_by_layer(models):
    found = layer_distances(models["a"], models["b"])
    assert (found.dims, found.shape) == (("score", "layer"), (2, 4))
    sides = [models[m].sel(score="B", layer=2).to_numpy().ravel() for m in ("a", "b")]
    assert float(found.sel(score="B", layer=2)) == pytest.approx(wasserstein_distance(*sides))
    with pytest.raises(UserError, match=r"same layers .*\[0, 1, 2, 3\] and \[0, 1\]"):
        layer_distances(models["a"], models["c"])
