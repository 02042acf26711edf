"""RON against its formula, from what Hugging Face's own modules compute."""

import numpy as np
import pytest
from helpers import written as modules
from helpers.closeness import assert_close
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.models.model import Model
from inactive_heads.scores.registry import get_score


@pytest.mark.parametrize("name", modules.ENGINES)
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma3_text", "olmo2"])
def test_ron_is_its_formula(model_type, name):
    network, layout = tiny(model_type), modules.LAYOUTS[model_type]
    inputs = [*samples((7, 4)), [5]]
    found = {}
    modules.engine_of(layout, name, network).run(
        TokenBatch.of(inputs), lambda heads: found.update({heads.layer: get_score("RON")(heads)})
    )
    for row, tokens in enumerate(inputs):
        reads = modules.expected_reads(network, layout, modules.expected(network, layout, tokens))
        for layer, read in reads:
            counted = read[1:] if len(tokens) > 1 else read
            expected = counted.double().square().mean(dim=0).sqrt().float()
            assert_close(found[layer][row], expected, rtol=1e-4)


@pytest.mark.parametrize("name", modules.ENGINES)
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "granite"])
def test_rod_is_ron_of_what_differs_from_the_mean(model_type, name):
    engine = modules.ENGINES[name](tiny(model_type))
    model = Model(engine, None, {"model": "tiny"}, lambda text: [])
    inputs = samples((7, 1))
    means = ih.mean_head_outputs(model, inputs[1:])  # of one token: its output is its mean

    def rod(factor):
        scored = ih.score_heads(
            model, inputs, scores=["RON", ih.read_output_distance(factor * means)]
        )
        return scored.values

    ron, unmoved = rod(0.0)
    assert_close(unmoved, ron, rtol=1e-4)
    assert np.abs(rod(1.0)[1, 1]).max() < 1e-4 * ron[1].max()
    assert_close(rod(-1.0)[1, 1], 2 * ron[1], rtol=1e-4)
    assert (np.abs(rod(1.0)[1, 0] / ron[0] - 1) > 1e-3).any()
