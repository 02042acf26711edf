"""RON against its formula, from what Hugging Face's own modules compute."""

import pytest
import test_writing as modules
import torch
from tiny_families import samples, tiny

from inactive_heads.heads import TokenBatch
from inactive_heads.scores import get_score


@pytest.mark.parametrize("name", modules.ENGINES)
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma3_text", "olmo2"])
def test_ron_is_its_formula(model_type, name):
    network = tiny(model_type)
    inputs = [*samples((7, 4)), [5]]
    found = {}
    modules.ENGINES[name](network).run(
        TokenBatch.of(inputs), lambda heads: found.update({heads.layer: get_score("RON")(heads)})
    )
    for row, tokens in enumerate(inputs):
        reads = modules.expected_reads(
            modules.expected(tiny(model_type), model_type, tokens), model_type
        )
        for layer, read in reads:
            counted = read[1:] if len(tokens) > 1 else read
            expected = counted.double().square().mean(dim=0).sqrt().float()
            torch.testing.assert_close(found[layer][row], expected, rtol=1e-4, atol=1e-6)
