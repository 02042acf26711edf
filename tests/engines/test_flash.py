"""The flash engine against Hugging Face's own eager attention, and against the lens engine."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from helpers import reference as plain
from helpers.closeness import assert_close
from helpers.tiny_families import ARCHITECTURES, LENGTHS, N_HEADS, samples, tiny

from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.attention import attend as attention
from inactive_heads.engines.attention.attend import attend, flash_attention
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.base import Silence
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.engines.routing.hf_attention import INTERFACE
from inactive_heads.errors import UserError
from inactive_heads.names import PAPER_SCORES
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import get_score


class Collect:
    """A visitor that looks at scores, and at nothing else."""

    def __init__(self, names=PAPER_SCORES):
        self.scores, self.layers = get_scores(names), {}

    def __call__(self, heads):
        self.layers[heads.layer] = torch.stack([score(heads) for score in self.scores])

    @property
    def values(self):
        """``(score, layer, input, head)``."""
        return torch.stack(list(self.layers.values()), dim=1)


class Zero:
    """A visitor that silences heads by a score, per input."""

    def __init__(self, name, threshold):
        self.score, self.threshold, self.masks = get_score(name), threshold, []

    def __call__(self, heads):
        mask = self.score.is_inactive(self.score(heads), self.threshold)
        self.masks.append(mask)
        return Silence(mask)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def network(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def expected(network):
    """Reference scores ``(score, layer, input, head)`` and logits, one input at a time."""
    scores, logits = [], []
    for tokens in samples():
        found, layers = plain.run(network, tokens, dtype=network.dtype)
        rows = [plain.scores(layer) for layer in layers]
        scores.append([[row[name] for row in rows] for name in PAPER_SCORES])
        logits.append(found[-1])
    by_input = torch.as_tensor(np.array(scores)).float()
    return by_input.permute(1, 2, 0, 3), torch.as_tensor(np.array(logits)).float()


@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_are_the_definitions(network, expected, side):
    engine, seen = FlashEngine(network, "tiny"), Collect()
    logits = engine.run(TokenBatch.of(samples(), side=side), seen)
    assert_close(seen.values, expected[0], rtol=1e-4, axis=(1, 2, 3))
    assert_close(logits, expected[1], rtol=1e-4)


@pytest.fixture(scope="module")
def engines(network):
    model_type = network.config.model_type
    try:
        bridge = bridge_of(copy.deepcopy(network), "tiny")
    except UserError:
        pytest.skip(f"TransformerLens has no bridge for {model_type}")
    return FlashEngine(network, "tiny"), LensEngine(bridge)


@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_are_the_lens_engines(engines, side):
    batch = TokenBatch.of(samples(), side=side)
    flash, lens = Collect(), Collect()
    logits = [engine.run(batch, seen) for engine, seen in zip(engines, (flash, lens), strict=True)]
    assert engines[0].shape == engines[1].shape
    assert list(flash.layers) == list(lens.layers)
    assert_close(flash.values, lens.values, rtol=1e-4, axis=(1, 2, 3))
    assert_close(*logits, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "threshold"), [("AHON (LN)", 0.97), ("AWFT", 0.4), ("AEQD (LN)", 1.0)]
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_zeroing_per_input_is_the_lens_engines(engines, name, threshold, side):
    batch = TokenBatch.of(samples(), side=side)
    answers = Zero(name, threshold), Zero(name, threshold)
    logits = [engine.run(batch, answer) for engine, answer in zip(engines, answers, strict=True)]
    masks = [torch.stack(answer.masks) for answer in answers]
    assert 0 < masks[0].float().mean() < 1
    assert torch.equal(*masks)
    assert_close(*logits, rtol=1e-4)


def test_kept_positions_row_after_row(network):
    batch = TokenBatch.of(samples())
    keep = batch.mask.clone()
    keep[0, 3:5] = False
    with torch.no_grad():
        whole = network(batch.tokens, use_cache=False).logits
    for visitor in (None, Collect(["AHON"])):
        logits = FlashEngine(network, "tiny").run(batch, visitor, keep)
        assert_close(logits, whole[keep], rtol=1e-4)


def test_nothing_is_left_behind(network):
    engine, batch = FlashEngine(network, "tiny"), TokenBatch.of(samples())
    before = network.config._attn_implementation
    expected = engine.run(batch)

    def broken(heads):
        raise ArithmeticError("the visitor failed")

    for visitor in (Collect(["AHON"]), broken):
        try:
            engine.run(batch, visitor)
        except ArithmeticError:
            assert visitor is broken
        assert before != INTERFACE
        configs = [getattr(module, "config", None) for module in network.modules()]
        assert {config._attn_implementation for config in configs if config is not None} == {before}
        assert not any(
            module._forward_hooks or module._forward_pre_hooks for module in network.modules()
        )
        assert torch.equal(engine.run(batch), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_looking_changes_no_bit_of_a_plain_model(dtype):
    network = tiny("llama").to(dtype)
    engine, batch = FlashEngine(network, "tiny"), TokenBatch.of(samples())
    without_entropy = [name for name in PAPER_SCORES if not name.startswith("AEQD")]
    assert torch.equal(engine.run(batch, Collect(without_entropy)), engine.run(batch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_asking_for_the_entropy_changes_rounding_only(dtype):
    engine = FlashEngine(tiny("llama").to(dtype), "tiny")
    wide = FlashEngine(tiny("llama").to(dtype).double(), "tiny")
    batch = TokenBatch.of(samples(8 * LENGTHS))  # few inputs' errors are a matter of luck
    truth = wide.run(batch)
    plain, looked = (engine.run(batch, visitor) for visitor in (None, Collect()))
    error = [float((logits - truth).norm() / truth.norm()) for logits in (plain, looked)]
    assert error[1] < 1.25 * error[0] < {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]


def test_attention_calls_are_as_few_as_the_scores_allow(monkeypatch):
    engine, calls = FlashEngine(tiny("llama"), "tiny"), []

    def counted(*arguments):
        calls.append(arguments)
        return flash_attention(*arguments)

    monkeypatch.setattr(attention, "flash_attention", counted)
    batch = TokenBatch.of(samples())
    engine.run(batch, Collect(["AHON (LN)", "LTHON (HN)", "AHRN", "AVVN", "AWFT (LN)"]))
    assert len(calls) == 3
    engine.run(batch, Collect())
    # Two in the first layer, where the entropy comes unannounced, and one in the two others.
    assert len(calls) == 3 + 4


def test_silencing_reaches_later_layers_and_leaves_other_inputs():
    engine, batch = FlashEngine(tiny("qwen2"), "tiny"), TokenBatch.of(samples((6, 6)))
    heads_seen = []

    def silence_first_input(heads):
        heads_seen.append(heads.z)
        mask = torch.zeros(2, N_HEADS, dtype=torch.bool)
        mask[0, 1] = heads.layer == 0
        return Silence(mask)

    engine.run(batch, lambda heads: heads_seen.append(heads.z))
    engine.run(batch, silence_first_input)
    before, after = heads_seen[:3], heads_seen[3:]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1][0], after[1][0])
    assert torch.equal(before[1][1], after[1][1])


def test_a_network_that_is_refused_has_its_own_attention_again():
    network = tiny("mamba", state_size=4)
    with pytest.raises(UserError, match=r'MambaForCausalLM of .tiny. .* try engine="lens"'):
        FlashEngine(network, "tiny")
    assert network.config._attn_implementation != INTERFACE


def heads(n, *, kv=2, n_heads=4, d=16, peak=1.0, dtype=torch.float32, batch=2):
    """Queries, keys and values whose logits spread by about ``peak``; key 0 attracts most."""
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        return torch.randn(batch, count, n, d, generator=generator)

    query, key, value = draw(n_heads), draw(kv), draw(kv)
    query[..., 0] = 1
    key[:, :, 0, 0] += peak * math.sqrt(d)
    return query.to(dtype), key.to(dtype), value.to(dtype)


def exact(query, key, value, scale):
    """z, weight of the first token and entropy in float64, ``(batch, pos, head, ...)``."""
    group = query.shape[1] // key.shape[1]
    query, key, value = query.double(), key.double(), value.double()
    key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
    logits = scale * query @ key.mT
    logits = logits.masked_fill(torch.ones_like(logits[0, 0]).triu(1).bool(), -torch.inf)
    logs = logits.log_softmax(dim=-1)
    weights = logs.exp()
    entropy = -torch.where(weights > 0, weights * logs, 0).sum(dim=-1)
    z = (weights @ value).transpose(1, 2)
    return z, weights[..., 0].transpose(1, 2), entropy.transpose(1, 2)


def inputs_of(query, key, value, **changes):
    first = torch.zeros(len(query), dtype=torch.long)
    return AttentionInputs(query, key, value, query.shape[-1] ** -0.5, first, **changes)


@pytest.mark.parametrize("peak", [0, 3, 8, 15])
@pytest.mark.parametrize("route", ["flash", "flash with entropy", "blocks"])
def test_statistics_of_long_peaked_attention(peak, route, monkeypatch):
    query, key, value = heads(600, peak=peak)
    if route == "blocks":
        monkeypatch.setattr(attention, "flash_attention", lambda *_: None)
    inputs = inputs_of(query, key, value)
    z, statistics = attend(inputs, with_entropy=route == "flash with entropy")
    z_exact, first_exact, entropy_exact = exact(query, key, value, inputs.scale)
    assert (entropy_exact.mean() < 0.01) == (peak == 15)
    assert_close(z, z_exact, rtol=1e-4)
    first = statistics.first_token_weight()
    torch.testing.assert_close(first.double(), first_exact, rtol=1e-4, atol=1e-6)
    entropy = statistics.entropy().double().mean(dim=1)
    torch.testing.assert_close(entropy, entropy_exact.mean(dim=1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("with_entropy", [False, True])
def test_statistics_of_half_precision_inputs(with_entropy):
    query, key, value = heads(400, peak=4, dtype=torch.bfloat16)
    inputs = inputs_of(query, key, value)
    z, statistics = attend(inputs, with_entropy=with_entropy)
    z_exact, first_exact, entropy_exact = exact(query, key, value, inputs.scale)
    assert z.dtype == torch.bfloat16
    assert_close(z, z_exact, rtol=2e-2)
    first = statistics.first_token_weight()
    assert first.dtype == torch.float32
    torch.testing.assert_close(first.double(), first_exact, rtol=1e-4, atol=1e-6)
    entropy = statistics.entropy().double().mean(dim=1)
    torch.testing.assert_close(entropy, entropy_exact.mean(dim=1), rtol=2e-3, atol=0)


@pytest.mark.parametrize("n", [1, 5, 130])
def test_pattern_agrees_with_the_statistics_made_without_it(n):
    inputs = inputs_of(*heads(n, kv=1))
    batch = TokenBatch.of([[1] * n] * 2)
    _, statistics = attend(inputs)
    from_pattern = PatternStatistics(batch, statistics.pattern())
    for name in ("first_token_weight", "entropy"):
        made, read = getattr(statistics, name)(), getattr(from_pattern, name)()
        torch.testing.assert_close(made, read, rtol=1e-4, atol=2e-6)


def test_an_additive_mask_is_added():
    query, key, value = heads(40)
    scale = query.shape[-1] ** -0.5
    bias = torch.where(torch.ones(40, 40).tril().bool(), 0, -torch.inf)
    slopes = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    distance = torch.arange(40)[None, :] - torch.arange(40)[:, None]
    mask = (bias + slopes * distance.clamp(max=0))[None]
    z, statistics = attend(inputs_of(query, key, value, mask=mask))
    logits = scale * query @ key.repeat_interleave(2, dim=1).mT + mask
    pattern = logits.softmax(dim=-1)
    torch.testing.assert_close(statistics.pattern(), pattern)
    torch.testing.assert_close(z, (pattern @ value.repeat_interleave(2, dim=1)).transpose(1, 2))
    torch.testing.assert_close(statistics.first_token_weight(), pattern[..., 0].transpose(1, 2))


@pytest.mark.parametrize("kernel", ["flash_attention", "efficient_attention"])
def test_cuda_kernels_are_called_as_pytorch_declares_them(kernel):
    """Shapes only: the meta device knows the kernels' signatures and what they give."""
    query, key, value = (t.to("meta", torch.bfloat16) for t in heads(40, kv=4))
    operation = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}")
    middle = (0.0, True) if kernel == "flash_attention" else (None, True, 0.0, True)
    z, lse = operation(query, key, value, *middle, scale=0.25)[:2]
    assert z.shape == (2, 4, 40, 16)
    assert lse.shape[:2] == (2, 4)
    assert lse.shape[2] >= 40
