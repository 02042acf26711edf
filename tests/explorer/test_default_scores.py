"""Which scores the explorer shows unless told otherwise, and how this project's are marked."""

from dataclasses import replace

import pytest
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.scores.registry import REGISTRY

TEXTS = [[5, 9, 2, 7, 30], [3, 3, 8]]


@pytest.fixture(scope="module")
def model():
    return ih.Model(LensEngine(bridge_of(tiny_llama(), "tiny")), None, {"model": "tiny"}, list)


def test_ron_is_beside_the_papers_scores_and_marked(model):
    explorer = ih.explore(model, TEXTS, progress=False)
    shown = explorer.table["scores"]
    assert [one["name"] for one in shown] == [*ih.PAPER_SCORES, "RON"]
    assert [one["label"] for one in shown] == [*ih.PAPER_SCORES, "RON (ours)"]
    assert explorer.score == "AHON (LN)"
    assert explorer.scores.sizes["score"] == 16


def test_ron_is_left_out_where_it_cannot_be_computed(model, monkeypatch):
    def broken(heads):
        raise ih.UserError("no norms today")

    monkeypatch.setitem(REGISTRY, "RON", replace(REGISTRY["RON"], function=broken))
    explorer = ih.explore(model, TEXTS, progress=False)
    assert [one["name"] for one in explorer.table["scores"]] == list(ih.PAPER_SCORES)
    with pytest.raises(ih.UserError, match="no norms today"):
        ih.explore(model, TEXTS, scores=["RON"], progress=False)
