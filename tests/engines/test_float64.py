"""A model in float64 gives what it gives in float32, without float32's rounding of its own."""

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

QUIET = {"progress": False}


def model_of(family, engine, dtype):
    network = tiny(family).to(dtype)
    if engine == "flash":
        made = FlashEngine(network, "tiny")
    else:
        network.set_attn_implementation("eager")
        made = LensEngine(bridge_of(network, "tiny"))
    return Model(made, None, {"model": "tiny"}, lambda text: [])


@pytest.mark.parametrize("engine", ["flash", "lens"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "mistral", "bitnet"])
def test_scores_zeroing_and_text_in_float64(family, engine):
    single, double = (model_of(family, engine, dtype) for dtype in (torch.float32, torch.float64))
    scores = [*ih.PAPER_SCORES, "RON"]
    found, expected = (
        ih.score_heads(model, samples(), scores=scores, **QUIET) for model in (double, single)
    )
    assert found.dtype == np.float32
    assert_close(found, expected, rtol=1e-5, axis=(1, 2, 3))
    threshold = 0.9
    runs = [
        ih.ablate(model, samples(), ih.PerInput("AHON (LN)", threshold), **QUIET)
        for model in (double, single)
    ]
    np.testing.assert_array_equal(runs[0].zeroed, runs[1].zeroed)
    assert_close(runs[0].logits, runs[1].logits, rtol=1e-5)
    texts = [
        ih.generate(model, samples(), ih.Fixed([(0, 1)]), max_new_tokens=4, **QUIET).tokens
        for model in (double, single)
    ]
    assert texts[0] == texts[1]
