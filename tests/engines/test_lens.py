import copy
import re

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.closeness import assert_close
from helpers.tiny_families import tiny as tiny_family
from helpers.tiny_models import SAMPLES, tiny, tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.names import PAPER_SCORES


def model_of(network, name="tiny"):
    return ih.as_model(bridge_of(copy.deepcopy(network), name))


def expected_scores(network, samples):
    """(score, sample, layer, head) by the float64 reference."""
    values = []
    for sample in samples:
        _, layers = reference.run(network, sample)
        rows = [reference.scores(layer) for layer in layers]
        values.append([[row[name] for row in rows] for name in PAPER_SCORES])
    return np.array(values).transpose(1, 0, 2, 3)


def test_every_score_equals_the_plain_float64_reference(network):
    expected = expected_scores(network, SAMPLES)
    scores = ih.score_heads(model_of(network), SAMPLES)
    assert scores.dims == ("score", "sample", "layer", "head")
    assert list(scores["score"].values) == list(PAPER_SCORES)
    assert_close(scores, expected, rtol=1e-4, axis=(1, 2, 3))
    # The one ratio that has no value: no entropy in the whole layer of a one-token input.
    undefined = np.isnan(scores.values)
    assert undefined[PAPER_SCORES.index("AEQD (LN)"), 0].all()
    assert undefined.sum() == expected[0, 0].size


LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 1000), side=st.sampled_from(["left", "right"]))
def test_a_score_does_not_depend_on_the_batch_or_on_padding(lengths, seed, side):
    rng = np.random.default_rng(seed)
    samples = [rng.integers(0, 97, n).tolist() for n in lengths]
    engine = LENS
    together = collect(engine, TokenBatch.of(samples, side=side))
    for row, sample in enumerate(samples):
        alone = collect(engine, TokenBatch.of([sample]))
        assert_close(together[:, row], alone[:, 0], rtol=1e-5, axis=(1, 2))


LENS = LensEngine(bridge_of(tiny_llama(), "tiny"))


def collect(engine, batch):
    from inactive_heads.scores.paper import get_scores

    seen = []
    engine.run(
        batch, lambda heads: seen.append(torch.stack([score(heads) for score in get_scores()]))
    )
    return torch.stack(seen, dim=2).numpy()


def test_padding_that_holds_nan_is_never_read():
    batch = TokenBatch.of([[1, 2], [3, 4, 5]], side="left")
    pad = torch.where(batch.mask, 0.0, float("nan"))[:, :, None, None]

    class Poisoned:
        def __call__(self, heads):
            heads.outputs, heads.values = heads.outputs + pad, heads.values + pad
            for score in ih.PAPER_SCORES:
                ih.get_score(score)(heads)

    LENS.run(batch, Poisoned())


def test_masks_with_holes_and_empty_inputs_are_refused():
    mask = torch.tensor([[True, True, True], [True, False, True]])
    with pytest.raises(ValueError, match="input 1 has a hole: 2 real tokens spread over 3"):
        TokenBatch(torch.zeros(2, 3, dtype=torch.long), mask)
    with pytest.raises(ValueError, match="input 0 of the batch has no tokens"):
        TokenBatch(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3, dtype=torch.bool))


def test_logits_are_hugging_faces(network):
    expected = [network(torch.tensor([s])).logits[0, -1] for s in SAMPLES]
    engine = LensEngine(bridge_of(copy.deepcopy(network), "tiny"))
    for side in ("left", "right"):
        logits = engine.run(TokenBatch.of(SAMPLES, side=side))
        assert_close(logits, torch.stack(expected), rtol=1e-4)


def test_hooks_never_outlive_a_call_even_a_failing_one(network):
    bridge = bridge_of(copy.deepcopy(network), "tiny")
    seen = []
    bridge.add_hook("blocks.0.attn.hook_z", lambda z, hook: seen.append(z.shape))
    bridge(torch.tensor([[1, 2]]))  # the bridge adds hooks of its own to norms when first run
    before = hooks_in(bridge)
    model = ih.as_model(bridge)

    def fail(heads):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        model.engine.run(TokenBatch.of(SAMPLES), fail)
    assert hooks_in(bridge) == before
    ih.ablate(model, SAMPLES, ih.Random(0.5))
    assert hooks_in(bridge) == before
    assert len(seen) > 0  # the user's own hook was there all along, and still is


def hooks_in(bridge):
    return [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in bridge.named_modules()
    ]


def test_silencing_all_heads_removes_the_layers_attention_output_but_its_bias(network):
    engine = LensEngine(bridge_of(copy.deepcopy(network), "tiny"))
    batch = TokenBatch.of([[5, 6, 7, 8]])

    def silence(heads):
        return Silence(torch.full((1, 4), heads.layer == 1)) if heads.layer == 1 else None

    _, _, output = reference.attention_modules(network)[1]
    bias = 0 if getattr(output, "bias", None) is None else output.bias

    def only_bias(module, inputs, out):
        return torch.zeros_like(out) + bias

    zeroed = engine.run(batch, silence)
    handle = output.register_forward_hook(only_bias)
    removed = network(batch.tokens).logits[:, -1]
    handle.remove()
    assert_close(zeroed, removed, rtol=1e-4)
    assert not torch.allclose(zeroed, engine.run(batch), atol=1e-3)


def test_a_pattern_that_comes_after_z_is_scored_and_its_ablation_refused():
    import transformers

    sizes = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    network = tiny(transformers.GPTJConfig(**sizes, rotary_dim=4))
    model = model_of(network, "tiny-gptj")
    scores = ih.score_heads(model, SAMPLES, scores=["AWFT", "AHON"])
    expected = [network(torch.tensor([s]), output_attentions=True).attentions for s in SAMPLES]
    weight = [[float(layer[0, :, :, 0].mean(-1)[0]) for layer in one] for one in expected]
    assert_close(scores.sel(score="AWFT").values[:, :, 0], weight, rtol=1e-5)
    ih.ablate(model, SAMPLES, ih.PerInput("AHON", threshold=1.0))
    with pytest.raises(ih.UserError, match="tiny-gptj.*only after the head outputs"):
        ih.ablate(model, SAMPLES, ih.PerInput("AWFT", threshold=0.5))


def test_hybrids_are_scored_where_they_have_heads():
    import transformers

    config = transformers.Lfm2Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention", "conv"],
    )
    scores = ih.score_heads(model_of(tiny(config), "tiny-lfm2"), SAMPLES)
    assert list(scores["layer"].values) == [1]
    assert np.isfinite(scores.sel(score="AHON")).all()


WIRED = {
    "opt": ({"word_embed_proj_dim": 32, "ffn_dim": 64}, "out_proj"),
    "bert": ({"is_decoder": True}, "output.dense"),
    "gpt2": ({}, "c_proj"),
}


@pytest.mark.parametrize("family", WIRED)
def test_hooks_that_wire_a_bridge_belong_to_the_model(family):
    options, projection = WIRED[family]
    network, entered, seen = tiny_family(family, **options), [], []
    network.set_attn_implementation("eager")
    handles = [
        module.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
        for name, module in network.named_modules()
        if re.search(rf"(attn|attention)\.{projection}$", name)
    ]
    tokens = torch.tensor([[5, 6, 7, 8]])
    expected = network(tokens, use_cache=False).logits[:, -1]
    for handle in handles:
        handle.remove()
    bridge = bridge_of(network, "tiny")
    engine = LensEngine(bridge)
    for batch in (TokenBatch.of([[5, 6, 7, 8], [9, 8]], side=side) for side in ("left", "right")):
        assert_close(engine.run(batch)[:1], expected, rtol=1e-4)
    engine.run(TokenBatch.of([[5, 6, 7, 8]]), lambda heads: seen.append(heads.outputs.flatten(2)))
    for z, one in zip(seen, entered, strict=True):
        assert_close(z, one, rtol=1e-4)
    bridge.add_perma_hook("blocks.1.attn.hook_z", lambda z, hook: z * 2)
    with pytest.raises(ih.UserError, match="hook_in' changes what the model computes"):
        engine.run(TokenBatch.of([[5, 6, 7, 8]]))
