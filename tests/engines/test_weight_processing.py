"""A user's own TransformerBridge or HookedTransformer, as it is: the same numbers from the same
weights, and what each step of TransformerLens's weight processing changes.

HookedTransformer is there in TransformerLens 3 only; `make lens3` runs this file with it.
"""

import copy

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_models import NETWORKS, SAMPLES

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import bridge_of
from inactive_heads.models.model import Model
from inactive_heads.names import PAPER_SCORES

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning"),
]

STEPS = (
    "fold_ln",
    "center_writing_weights",
    "center_unembed",
    "fold_value_biases",
    "refactor_factored_attn_matrices",
)
PATTERN = {"AWFT", "AWFT (LN)", "AEQD", "AEQD (LN)"}
RESULT = {"AHRN", "AHRN (LN)"}
VECTORS = set(PAPER_SCORES) - PATTERN  # of v, z and r


def bridge(network, folder, **steps):
    """A TransformerBridge with the steps done, raw Hugging Face weights without any."""
    made = bridge_of(copy.deepcopy(network), "tiny")
    if steps:
        made.enable_compatibility_mode(**dict.fromkeys(STEPS, False) | steps)
    return made


def hooked_transformer(network, folder, **steps):
    """A HookedTransformer of the same weights, read from a local folder as TransformerLens does."""
    try:
        from transformer_lens import HookedTransformer
        from transformer_lens import loading_from_pretrained as loading
    except ImportError:
        pytest.skip("this version of TransformerLens has no HookedTransformer (make lens3 has)")
    network = copy.deepcopy(network)
    network.config.n_ctx = network.config.max_position_embeddings  # which GPT-2's own files have
    where = str(folder / "tiny")
    network.save_pretrained(where)
    cfg = loading.get_pretrained_model_config(
        where, hf_cfg=network.config.to_dict(), fold_ln=steps.get("fold_ln", False)
    )
    cfg.tokenizer_name = None
    weights = loading.get_pretrained_state_dict(where, cfg, network)
    made = HookedTransformer(cfg).eval()
    made.load_and_process_state_dict(weights, **dict.fromkeys(STEPS, False) | steps)
    return made


KINDS = [bridge, hooked_transformer]


@pytest.fixture(params=NETWORKS)
def network(request):
    """A tiny model whose norms have weights of their own, so that folding them does something."""
    made = NETWORKS[request.param]()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in made.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return made


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def flash(network):
    engine = FlashEngine(copy.deepcopy(network), "tiny")
    return Model(engine, None, {"model": "tiny", "dtype": "float32", "device": "cpu"}, list)


def test_the_same_weights_have_the_same_scores(network, kind, tmp_path):
    ours = ih.score_heads(flash(network), SAMPLES)
    theirs = ih.score_heads(kind(network, tmp_path), SAMPLES)
    assert_close(theirs, ours, rtol=1e-5, axis=(1, 2, 3))


@pytest.mark.parametrize("score", ["AHON (LN)", "AWFT", "AEQD (LN)", "AHRN"])
def test_the_same_weights_are_ablated_alike(network, kind, tmp_path, score):
    ours, theirs = flash(network), kind(network, tmp_path)
    samples = [one for one in SAMPLES if len(one) > 1]  # one token has no AEQD (LN)
    scores = ih.score_heads(ours, samples, scores=[score])
    # Between two values, so that rounding moves no head over the threshold.
    values = np.unique(scores.values[np.isfinite(scores.values)])
    threshold = float(values[len(values) // 3 : len(values) // 3 + 2].mean())
    heads = ih.select_heads(scores, score, percent=30)
    for ablation in (ih.PerInput(score, threshold), ih.Fixed(heads), None):
        one, other = (ih.ablate(model, samples, ablation) for model in (ours, theirs))
        assert ablation is None or 0 < one.zeroed.mean() < 1
        np.testing.assert_array_equal(other.zeroed, one.zeroed)
        assert_close(other.logits, one.logits, rtol=1e-5)


CHANGES = {
    # Norm weights and biases go into the matrices that read the normalised stream.
    "fold_ln": set(),
    # What a head writes loses its mean over d_model; the next norm takes that out anyway.
    "center_writing_weights": RESULT,
    # Logits lose their mean over the vocabulary.
    "center_unembed": set(),
    # b_V leaves v and z, and b_O gets b_V W_O: every query's weights sum to 1.
    "fold_value_biases": VECTORS,
    # W_V W_O of a head is split another way, after b_V has been folded.
    "refactor_factored_attn_matrices": VECTORS,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_changes_these_scores_and_no_others(kind, tmp_path, step):
    network = NETWORKS["gpt2"]()
    raw, processed = (
        ih.score_heads(kind(network, tmp_path, **steps), SAMPLES) for steps in ({}, {step: True})
    )
    # A one-token input has no entropy to divide by: NaN in both.
    apart = abs(processed - raw).max(["sample", "layer", "head"])
    changed = {str(name) for name in apart["score"].values if apart.sel(score=name) > 1e-4}
    assert changed == CHANGES[step]


def test_folded_value_biases_are_no_longer_zeroed_with_a_head(kind, tmp_path):
    """v and z lose b_V exactly; a zeroed head then leaves b_V W_O behind, in b_O."""
    network = NETWORKS["gpt2"]()
    raw, folded = (
        ih.as_model(kind(network, tmp_path, **steps)) for steps in ({}, {"fold_value_biases": True})
    )
    seen = {id(raw): [], id(folded): []}
    for model in (raw, folded):
        collect = seen[id(model)]
        model.engine.run(
            ih.TokenBatch.of([SAMPLES[3]]),
            lambda heads, collect=collect: collect.append((heads.v.clone(), heads.z.clone())),
        )
    for layer, ((v, z), (v_folded, z_folded)) in enumerate(zip(*seen.values(), strict=True)):
        attention = network.transformer.h[layer].attn
        bias = attention.c_attn.bias.chunk(3)[2].unflatten(0, (4, 8))
        assert_close(v, v_folded + bias, rtol=1e-5)
        assert_close(z, z_folded + bias, rtol=1e-5)
    every = ih.Fixed([(0, head) for head in range(4)])
    means = ih.mean_head_outputs(raw, SAMPLES) * 0
    means[0] = network.transformer.h[0].attn.c_attn.bias.chunk(3)[2].unflatten(0, (4, 8)).numpy()
    kept_bias = ih.ablate(raw, SAMPLES, ih.Fixed(every.heads, replacement=means))
    zeroed_folded = ih.ablate(folded, SAMPLES, every)
    assert_close(zeroed_folded.logits, kept_bias.logits, rtol=1e-5)
    assert not torch.allclose(
        zeroed_folded.logits, ih.ablate(raw, SAMPLES, every).logits, atol=1e-2
    )
