import copy

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.closeness import assert_close
from helpers.tiny_models import SAMPLES, tiny_llama

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.lens import bridge_of
from inactive_heads.engines.lens_visit import HOOKS

NETWORK = tiny_llama()
BRIDGE = bridge_of(copy.deepcopy(NETWORK), "tiny")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cache_gives_the_same_scores_as_the_model(side):
    batch = TokenBatch.of(SAMPLES, side=side)
    _, cache = BRIDGE.run_with_cache(batch.tokens, attention_mask=batch.mask.long())
    scores = ih.score_cache(cache, attention_mask=batch.mask)
    expected = ih.score_heads(BRIDGE, SAMPLES)
    assert_close(scores, expected, rtol=1e-5, axis=(1, 2, 3))
    assert scores.coords.equals(expected.coords)
    assert scores.dims == expected.dims
    assert scores["n_tokens"].values.tolist() == [len(sample) for sample in SAMPLES]


def test_a_cache_without_the_hooks_says_which():
    _, cache = BRIDGE.run_with_cache(
        torch.tensor([[1, 2, 3]]), names_filter=lambda n: "hook_z" in n
    )
    with pytest.raises(ih.UserError, match="lacks 6 hooks .*blocks.0.attn.hook_v, .*names_filter"):
        ih.score_cache(cache)


def test_a_cache_without_the_residual_stream_serves_scores_that_do_without():
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    _, cache = BRIDGE.run_with_cache(tokens, names_filter=lambda n: n.endswith(HOOKS))
    found = ih.score_cache(cache, scores=["AHON"])
    assert_close(found, ih.score_heads(BRIDGE, tokens, scores=["AHON"]), rtol=1e-5)
    with pytest.raises(
        ih.UserError, match="the cache lacks blocks.0.hook_resid_pre, which a score"
    ):
        ih.score_cache(cache, scores=["RRN"])


def test_a_cache_without_a_batch_is_refused():
    _, cache = BRIDGE.run_with_cache(torch.tensor([[1, 2, 3]]), remove_batch_dim=True)
    with pytest.raises(ih.UserError, match=r"no batch dimension: hook_z has shape \(3, 4, 8\)"):
        ih.score_cache(cache)


def test_masks_that_do_not_fit_a_cache_are_refused():
    _, cache = BRIDGE.run_with_cache(torch.tensor([[1, 2, 3]]))
    with pytest.raises(ih.UserError, match=r"shape \(1, 2\), the cache \(batch, pos\) = \(1, 3\)"):
        ih.score_cache(cache, attention_mask=torch.ones(1, 2))
    with pytest.raises(ih.UserError, match="has a hole"):
        ih.score_cache(cache, attention_mask=torch.tensor([[1, 0, 1]]))


def test_a_native_bridge_of_the_users_own():
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    sizes = {"d_model": 32, "d_head": 8, "n_heads": 4, "n_layers": 2, "n_ctx": 32, "d_vocab": 50}
    bridge = TransformerBridge.boot_native(TransformerBridgeConfig(**sizes, act_fn="gelu", seed=0))
    scores = ih.score_heads(bridge, [[1, 2, 3], [4, 5]])
    assert scores.sizes == {"score": 15, "sample": 2, "layer": 2, "head": 4}
    assert np.isfinite(scores).all()
    _, cache = bridge.run_with_cache(torch.tensor([[1, 2, 3]]))
    assert_close(ih.score_cache(cache), scores[:, :1], rtol=1e-5, axis=(1, 2, 3))


def test_results_carry_where_they_are_from_and_survive_a_file(tmp_path):
    scores = ih.score_heads(BRIDGE, SAMPLES, scores=["AHON", "AWFT"])
    assert scores.attrs["model"] == "tiny"
    assert {"model_dtype", "weight_processing", "version_torch", "created"} <= set(scores.attrs)
    assert scores["inactive"].values.tolist() == ["below", "above"]
    scores.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    read = xr.load_dataarray(tmp_path / "scores.nc")
    xr.testing.assert_identical(read, scores)
    cuts = ih.choose_thresholds(read, [10])
    assert ih.inactive_heads(read, cuts).mean() > 0


def test_statistics_are_float32_whatever_the_models_type():
    half = ih.as_model(bridge_of(copy.deepcopy(NETWORK).bfloat16(), "tiny"))
    scores = ih.score_heads(half, SAMPLES)
    exact = ih.score_heads(BRIDGE, SAMPLES)
    assert scores.dtype == np.float32
    error = np.abs(scores / exact - 1)
    assert float(error.median()) < 0.01


def test_samples_are_not_a_single_text():
    with pytest.raises(ih.UserError, match="samples must be a list"):
        ih.score_heads(BRIDGE, "a text")
