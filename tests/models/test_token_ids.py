"""Token ids at both ends of the vocabulary, and lengths at the context's end."""

import pytest
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))  # 97 tokens, a context of 64


@pytest.mark.parametrize("ids", [[0], [96], [0, 96], [96] * 64, [0] * 64])
def test_ids_and_lengths_to_the_last(ids):
    assert ih.score_heads(MODEL, [ids], scores=["AHON"]).shape == (1, 1, 3, 4)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([-1], "sample 1 has token ids from -1 to -1; the model's vocabulary is 0 to 96"),
        ([3, -1, 5], "sample 1 has token ids from -1 to 5"),
        ([-97, 5], "sample 1 has token ids from -97 to 5"),
        ([97], "sample 1 has token ids from 97 to 97"),
        ([0, 97, 3], "sample 1 has token ids from 0 to 97"),
        ([], "sample 1 has no tokens"),
        ([1] * 65, "sample 1 has 65 tokens, the model's context is 64"),
    ],
)
def test_what_lies_beyond_is_refused(ids, message):
    for refuse in (
        lambda samples: ih.score_heads(MODEL, samples),
        lambda samples: ih.ablate(MODEL, samples, None),
        lambda samples: ih.mean_head_outputs(MODEL, samples),
    ):
        with pytest.raises(ih.UserError, match=message):
            refuse([[1, 2], ids])


@pytest.mark.parametrize("size", [0, -1, "all", "8"])
def test_a_batch_size_is_a_number_of_inputs_or_auto(size):
    with pytest.raises(ih.UserError, match="batch_size must be a positive number"):
        ih.score_heads(MODEL, [[1, 2]], batch_size=size)
