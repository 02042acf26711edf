"""Every labelled result is saved as NetCDF, and read again as it was."""

import numpy as np
import pytest
import xarray as xr
from helpers.tiny_models import SAMPLES, tiny_llama

import inactive_heads as ih
from inactive_heads import analysis
from inactive_heads.engines.lens import bridge_of
from inactive_heads.provenance import as_attrs
from inactive_heads.report.from_files import read_scores

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))
# A sample of one token, for which AEQD (LN) is undefined.
SCORES = ih.score_heads(MODEL, [*SAMPLES, [5]], progress=False)
CUTS = ih.choose_thresholds(SCORES)
MASK = analysis.inactive_at(SCORES, CUTS, 10)
TWO = [("a", SCORES), ("b", 2 * SCORES)]
GROUPS = ["x", "y"] * (len(SAMPLES) + 1)

RESULTS = {
    "score_heads": lambda: SCORES,
    "choose_thresholds": lambda: CUTS,
    "select_heads": lambda: ih.select_heads(SCORES, "AEQD (LN)", 20),
    "inactive_heads": lambda: ih.inactive_heads(SCORES, CUTS),
    "ablate": lambda: ih.ablate(MODEL, SAMPLES, ih.Random(0.5), progress=False).zeroed,
    "ablate by nothing": lambda: ih.ablate(MODEL, SAMPLES, None, progress=False).zeroed,
    "mean_head_outputs": lambda: ih.mean_head_outputs(MODEL, SAMPLES, progress=False),
    "inactive_at": lambda: MASK,
    "inactive_counts": lambda: analysis.inactive_counts(SCORES, CUTS, 10),
    "score_agreement": lambda: analysis.score_agreement(MASK),
    "inactive_shares": lambda: analysis.inactive_shares(MASK),
    "layer_shares": lambda: analysis.layer_shares(MASK),
    "group_shares": lambda: analysis.group_shares(MASK, GROUPS[: MASK.sizes["sample"]]),
    "length_shares": lambda: analysis.length_shares(MASK),
    "length_correlations": lambda: analysis.length_correlations(SCORES),
    "key_value_groups": lambda: analysis.key_value_groups(MASK, 2),
    "model_distances": lambda: analysis.model_distances(dict(TWO)),
    "layer_distances": lambda: analysis.layer_distances(SCORES, 2 * SCORES),
    "checkpoint_shares": lambda: analysis.checkpoint_shares(TWO, CUTS, 10),
    "inactive_states": lambda: analysis.inactive_states(TWO, CUTS, 10),
    "a comparison": lambda: SCORES > 0.5,
    "one threshold": lambda: CUTS.sel(score="AHON", percent=10),
}


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_a_result_is_saved_and_read_again(result, engine, tmp_path):
    found = result()
    found.to_netcdf(tmp_path / "found.nc", engine=engine)
    load = xr.load_dataset if isinstance(found, xr.Dataset) else xr.load_dataarray
    again = load(tmp_path / "found.nc", engine=engine)
    xr.testing.assert_identical(again, found)
    if isinstance(found, xr.DataArray):
        assert again.dtype.kind == found.dtype.kind


def test_results_say_where_they_come_from():
    for name in ("score_heads", "choose_thresholds", "select_heads", "inactive_heads", "ablate"):
        attrs = RESULTS[name]().attrs
        assert (attrs["model"], attrs["model_dtype"]) == ("tiny", "float32"), name
        assert "dtype" not in attrs
    assert as_attrs({"dtype": "bfloat16", "model": "m"}) == {
        "model_dtype": "bfloat16",
        "model": "m",
    }


def test_scores_of_earlier_versions_are_read(tmp_path):
    old = SCORES.copy()
    old.attrs = {"model": "tiny", "dtype": "float32"}
    old.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    found = read_scores(tmp_path / "scores.nc")
    assert found.attrs["model_dtype"] == "float32"
    np.testing.assert_array_equal(found, SCORES)


def test_a_fixed_set_of_a_saved_mask_is_the_same(tmp_path):
    mask = ih.select_heads(SCORES, "AHON", 20)
    mask.to_netcdf(tmp_path / "mask.nc", engine="h5netcdf")
    again = xr.load_dataarray(tmp_path / "mask.nc", engine="h5netcdf")
    assert ih.Fixed(again).heads == ih.Fixed(mask).heads
    assert ih.Fixed(mask).heads == [tuple(pair) for pair in np.argwhere(mask.values)]
