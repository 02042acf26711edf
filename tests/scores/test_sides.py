"""On which side of a threshold a head is inactive, score by score, and what that silences."""

import numpy as np
import pytest
import xarray as xr
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of
from inactive_heads.names import GALLERY_SCORES, PAPER_SCORES, PROPOSED_SCORES

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))
SAMPLES = [list(range(3, 20)), [50, 40, 30, 20, 10, 60]]

LARGE_WHERE_INACTIVE = ("AWFT", "MSS", "MAD")
"""A head that attends to the first token, or to one that is far away, does little else."""


@pytest.mark.parametrize("name", [*PAPER_SCORES, *PROPOSED_SCORES, *GALLERY_SCORES])
def test_a_head_is_inactive_where_it_attends_to_the_first_token_or_outputs_little(name):
    side = "above" if name.removesuffix(" (LN)") in LARGE_WHERE_INACTIVE else "below"
    score = ih.get_score(name)
    assert score.inactive == side
    scores = ih.score_heads(MODEL, SAMPLES, scores=[name])
    values = np.unique(scores.values)  # heads with one key/value head have one value norm
    cut = float(values[:2].mean() if side == "below" else values[-2:].mean())
    zeroed = ih.inactive_heads(scores, xr.DataArray([cut], dims="score", coords={"score": [name]}))
    np.testing.assert_array_equal(zeroed, scores == values[0 if side == "below" else -1])


def test_the_smallest_by_ron_are_the_heads_chosen():
    scores = ih.score_heads(MODEL, SAMPLES, scores=["RON"])
    mean = scores.sel(score="RON").mean("sample")
    chosen = ih.select_heads(scores, "RON", percent=25)
    assert int(chosen.sum()) == 2  # the threshold is the third of 12, and stays
    assert float(mean.where(chosen).max()) < float(mean.where(~chosen).min())


def test_a_head_that_writes_its_mean_is_inactive():
    rod = ih.read_output_distance(ih.mean_head_outputs(MODEL, SAMPLES))
    assert rod.inactive == "below"
    run = ih.ablate(MODEL, SAMPLES, ih.PerInput(rod, threshold=1e9))
    assert bool(run.zeroed.all())
    assert not ih.ablate(MODEL, SAMPLES, ih.PerInput(rod, threshold=0.0)).zeroed.any()
