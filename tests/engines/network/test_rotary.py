"""Rotary angles that depend on length: an input's results are those of a run on it alone.

The reference is Hugging Face's eager model, a fresh copy for every input.
"""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from helpers import reference
from helpers.closeness import assert_close
from helpers.tiny_families import samples, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

BORDER = 12
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0, 8.0, 16.0, 32.0]}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": BORDER,
    **FACTORS,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
LONG = {"max_position_embeddings": 64}
KINDS = {
    "phi3": (
        "phi3",
        LONG
        | {
            "rope_parameters": LONGROPE,
            "original_max_position_embeddings": BORDER,
            "partial_rotary_factor": 1.0,
            "sliding_window": None,
        },
    ),
    "llama, longrope": ("llama", LONG | {"rope_parameters": LONGROPE}),
    "phimoe": (
        "phimoe",
        LONG
        | {
            "rope_parameters": LONGROPE | {"short_mscale": 1.0, "long_mscale": 1.3},
            "sliding_window": None,
            "num_key_value_heads": 2,
            "num_local_experts": 4,
            "head_dim": 8,
        },
    ),
    # The border of this kind is the context; the engines themselves run longer inputs.
    "llama, dynamic": ("llama", {"max_position_embeddings": BORDER, "rope_parameters": DYNAMIC}),
    "gemma3, longrope in one layer": (
        "gemma3_text",
        LONG
        | {
            "rope_parameters": {"full_attention": LONGROPE, "sliding_attention": PLAIN},
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
}
LENGTHS = (9, 11, 12, 13, 14, 13, 20, 1)
INPUTS = samples(LENGTHS)


@functools.cache
def network(kind):
    family, options = KINDS[kind]
    made = tiny(family, **options)
    made.generation_config.eos_token_id = None
    return made


@functools.cache
def engine(kind, name):
    own = copy.deepcopy(network(kind))
    if name == "flash":
        return FlashEngine(own, "tiny")
    own.set_attn_implementation("eager")
    return LensEngine(bridge_of(own, "tiny"))


@functools.cache
def alone(kind, row):
    """The last logits of one input, by a model that has run nothing else."""
    fresh = copy.deepcopy(network(kind))
    fresh.set_attn_implementation("eager")
    with torch.no_grad():
        return fresh(torch.tensor([INPUTS[row]]), use_cache=False).logits[0, -1]


SHOWN = [(kind, name) for kind in KINDS for name in ("flash", "lens") if kind != "phimoe"]
SHOWN.append(("phimoe", "flash"))  # TransformerLens has no bridge for it


@pytest.mark.parametrize(("kind", "name"), SHOWN)
@settings(max_examples=6)
@given(
    rows=st.lists(st.sampled_from(range(len(LENGTHS))), min_size=1, max_size=5),
    side=st.sampled_from(["left", "right"]),
    looked=st.booleans(),
)
def test_no_result_depends_on_what_else_is_in_the_batch(kind, name, rows, side, looked):
    batch = TokenBatch.of([INPUTS[row] for row in rows], side=side)
    found = engine(kind, name).run(batch, (lambda heads: None) if looked else None)
    assert_close(found, torch.stack([alone(kind, row) for row in rows]), rtol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dynamic" not in kind])
def test_scores_beside_longer_inputs_are_eager_attentions(kind):
    model = Model(engine(kind, "flash"), None, {"model": "tiny"}, lambda text: [])
    found = ih.score_heads(model, INPUTS, progress=False)
    reference.assert_scores(found, network(kind), INPUTS)


def kept(network):
    """All that a network keeps beside its weights: buffers, and plain attributes of its modules."""
    found = {}
    for name, module in network.named_modules():
        found |= {f"{name}.{key}": one.clone() for key, one in module._buffers.items()}
        plain = {key: one for key, one in vars(module).items() if isinstance(one, int | float)}
        found |= {f"{name}.{key}": one for key, one in plain.items()}
        found |= {f"{name}.{key}": 0 for key in vars(module) if key.endswith("inv_freq")}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_the_angles_as_they_were(kind):
    own = copy.deepcopy(network(kind))
    runner = FlashEngine(own, "tiny")
    with torch.no_grad():
        own(torch.tensor([INPUTS[6]]), use_cache=False)  # a longer one of the caller's
    before = kept(own)
    for row in (0, 6, 2):
        runner.run(TokenBatch.of([INPUTS[row]]))
    after = kept(own)
    assert before.keys() == after.keys()
    assert all(bool(torch.as_tensor(before[key] == after[key]).all()) for key in before)
    found = runner.run(TokenBatch.of([INPUTS[2]]))  # just at the border
    assert_close(found[0], alone(kind, 2), rtol=1e-4)


def generated(kind, **options):
    """What Hugging Face generates, from one prompt at a time."""
    return [
        copy.deepcopy(network(kind))
        .generate(
            torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=0, **options
        )[0, len(prompt) :]
        .tolist()
        for prompt in INPUTS[:7]
    ]


NEVER = ih.PerInput("AHON", -1.0)
"""Silences nothing, and has to see every step."""


@pytest.mark.parametrize("ablation", [None, NEVER], ids=["cached", "every step"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dynamic" not in kind])
def test_generated_text_is_hugging_faces(kind, ablation):
    model = Model(engine(kind, "flash"), None, {"model": "tiny"}, lambda text: [])
    found = ih.generate(model, INPUTS[:7], ablation, max_new_tokens=6, progress=False).tokens
    assert found == generated(kind, use_cache=False)
    if kind == "phi3":  # whose own generate makes its cache anew at the border
        assert found == generated(kind)


def test_shared_prefixes_are_not_run_once_where_angles_differ():
    prefix = INPUTS[6][:11]
    texts = [[*prefix, token] for token in range(20, 26)] + [INPUTS[6]]
    for kind in KINDS:
        if "dynamic" in kind:
            continue
        model = Model(engine(kind, "flash"), None, {"model": "tiny"}, lambda text: [])
        found = ih.evaluate(model, ih.TextTask("texts", texts), progress=False).items["loss"]
        each = [
            ih.evaluate(model, ih.TextTask("texts", [text]), progress=False).items["loss"][0]
            for text in texts
        ]
        assert_close(found.to_numpy(), each, rtol=1e-4)
