"""The residual stream as the lens engine follows it."""

import gc
import weakref

import pytest
import torch
from helpers.tiny_families import tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.lens import LensEngine, bridge_of


def test_an_engine_keeps_no_bridge_alive():
    network = tiny("llama")
    network.set_attn_implementation("eager")
    bridge = bridge_of(network, "tiny")
    engine, seen = LensEngine(bridge), []
    engine.run(TokenBatch.of([[1, 2, 3]]), lambda heads: seen.append(heads.read_norm.numel()))
    assert len(seen) == 3
    known = weakref.ref(bridge)
    del bridge, engine, network
    gc.collect()
    assert known() is None


def test_a_cache_gives_no_stream_where_heads_add_to_another():
    network = tiny("bloom", apply_residual_connection_post_layernorm=True)
    bridge = bridge_of(network, "tiny")
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([[1, 2, 3]]))
    assert bool(ih.score_cache(cache, scores=["AHON"]).notnull().all())
    with pytest.raises(
        ih.UserError, match="layer 0 add to another stream than blocks.0.hook_resid_pre"
    ):
        ih.score_cache(cache, scores=["RON"])
