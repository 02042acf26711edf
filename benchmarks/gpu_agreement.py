"""Whether the flash engine gives the same numbers on another device, on every attention route.

Tiny models with random weights, one for each route that attention can take. What is compared is
computed by the same engine on the CPU in float32, where the tests check it against plain float64.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import inactive_heads as ih
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ScoredInput

SIZES = {
    "vocab_size": 400,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": None,
}
LENGTHS = (200, 97, 64, 1)
SCORES = (*ih.PAPER_SCORES, "RON")
ZEROED_BY = "AHON (LN)"


class Route(NamedTuple):
    """A model whose attention takes one route.

    Attributes:
        model_type: as in transformers.
        options: of its config.
        side: the side on which inputs are padded when scored.
    """

    model_type: str
    options: dict[str, Any]
    side: str = "right"


MLA = {
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 24,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 3,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
ROUTES = {
    "plain": Route("llama", {"num_key_value_heads": 4}),
    "grouped": Route("llama", {}),
    "padded left": Route("llama", {}, "left"),
    "sliding window": Route("mistral", {"sliding_window": 48}),
    "soft cap": Route(
        "gemma2", {"head_dim": 32, "sliding_window": 48, "attn_logit_softcapping": 2.0}
    ),
    "norms of q, k and output": Route("gemma3_text", {"head_dim": 32, "sliding_window": 48}),
    "sinks": Route("gpt_oss", {"head_dim": 32, "sliding_window": 48, "num_local_experts": 4}),
    "wide heads": Route("llama", {"head_dim": 320}),
    "narrow values": Route("deepseek_v2", MLA),
    "of its own, fused": Route("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "of its own, a product": Route(
        "gptj", {"n_embd": 128, "n_head": 4, "n_layer": 3, "rotary_dim": 8}
    ),
    "learned positions": Route("gpt2", {"n_embd": 128, "n_head": 4, "n_layer": 3}),
}


def network_of(route: Route) -> PreTrainedModel:
    """A network with random weights, the same every time.

    Args:
        route: its architecture.

    Returns:
        The network in float32 on the CPU.
    """
    names = ("vocab_size", "bos_token_id", "eos_token_id")
    sizes = {name: SIZES[name] for name in names} if "n_embd" in route.options else SIZES
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(route.model_type, **(sizes | route.options))
        network = AutoModelForCausalLM.from_config(config).eval()
        for parameter in network.parameters():
            if parameter.ndim >= 2:  # large enough that attention is far from uniform
                torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)
            elif not bool(parameter.any()):
                torch.nn.init.normal_(parameter, std=0.1)
    return network.requires_grad_(False)


class Numbers(NamedTuple):
    """What an engine gives for one route.

    Attributes:
        scores: ``(score, sample, layer, head)``.
        zeroed: ``(sample, layer, head)``, the heads zeroed by each input's own scores.
        logits: ``(sample, vocab)``, with those heads zeroed.
        fixed: ``(target,)``, log-probabilities with a fixed set zeroed, prefixes run once.
        whole: the same, every input run whole.
        written: tokens generated after each prompt, the same set zeroed, with a cache.
    """

    scores: np.ndarray
    zeroed: np.ndarray
    logits: np.ndarray
    fixed: np.ndarray
    whole: np.ndarray
    written: list[list[int]]


def numbers(
    network: PreTrainedModel, device: torch.device, dtype: torch.dtype, side: str, threshold: float
) -> Numbers:
    """What the flash engine gives on a device in a dtype.

    Args:
        network: in float32 on the CPU; not changed.
        device: where to run it.
        dtype: of its weights.
        side: the side on which inputs are padded when scored.
        threshold: of the score that heads are zeroed by.

    Returns:
        The numbers, on the CPU.
    """
    engine = FlashEngine(copy.deepcopy(network).to(device, dtype), "benchmark")
    model = Model(engine, None, {"model": "benchmark"}, lambda text: [])
    inputs = _inputs()
    scores = _scores(model, inputs, side)
    run = ih.ablate(model, inputs, ih.PerInput(ZEROED_BY, threshold), progress=False)
    heads = ih.Fixed([(layer, layer % 4) for layer in model.shape.layers])
    shared = [ScoredInput([*inputs[0], 5, k], [len(inputs[0]) + 1], [k + 1]) for k in range(8)]
    recorder = ZeroedRecorder(heads, model.shape, len(shared))
    together = log_likelihoods(model, shared, recorder, advance=lambda *_: None)
    # A visitor of unknown type must see every input's heads, which rules out sharing.
    alone = partial(ih.Fixed.__call__, heads)
    whole = log_likelihoods(model, shared, alone, advance=lambda *_: None)
    written = ih.generate(model, inputs[1:3], heads, max_new_tokens=8, progress=False).tokens
    return Numbers(
        scores,
        run.zeroed.values,
        run.logits.double().numpy(),
        np.concatenate(together),
        np.concatenate(whole),
        written,
    )


def _inputs() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 400, (n,), generator=generator).tolist() for n in LENGTHS]


def _scores(model: Model, inputs: Sequence[Sequence[int]], side: Any) -> np.ndarray:
    """All scores of all inputs in one batch, ``(score, sample, layer, head)``."""
    batch = TokenBatch.of(inputs, side=side, device=model.engine.device)
    found: list[np.ndarray] = []
    scores = [ih.get_score(name) for name in SCORES]

    def look(heads: Any) -> None:
        found.append(torch.stack([score(heads) for score in scores]).cpu().numpy())

    model.engine.run(batch, look)
    return np.stack(found, axis=2)


def gap(values: np.ndarray) -> float:
    """A threshold near the middle of some values, where no value is near.

    Args:
        values: any numbers.

    Returns:
        The middle of the widest gap there.
    """
    ordered = np.unique(values[np.isfinite(values)])
    near = ordered[len(ordered) // 3 : -len(ordered) // 3]
    at = int(np.diff(near).argmax())
    return float(near[at] + near[at + 1]) / 2


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, over the largest expected value of the same score.

    Args:
        found: ``(score, …)`` or any numbers.
        expected: the same, with NaN where a score is undefined.

    Returns:
        A ratio; infinite if NaN stand in different places.
    """
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    axes = tuple(range(1, expected.ndim)) if expected.ndim == 4 else None
    largest = np.nanmax(np.abs(expected), axis=axes, keepdims=True)
    return float(np.nanmax(np.abs(found - expected) / largest))


def agreement(
    device: torch.device, dtypes: Sequence[str], routes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Compares routes in every dtype on a device with the CPU in float32.

    Args:
        device: the device to check.
        dtypes: names of torch dtypes.
        routes: keys of `ROUTES`.

    Yields:
        One row for each route and dtype, with the largest differences of the device's numbers, and
        for half precision those of the CPU's in the same dtype. ``fine`` says whether float32
        agrees within 0.1%, and half precision at least as well as twice the CPU's own rounding.
    """
    cpu = torch.device("cpu")
    for name in routes:
        route = ROUTES[name]
        network = network_of(route)
        model = Model(FlashEngine(network, name), None, {"model": name}, lambda text: [])
        expected_scores = _scores(model, _inputs(), route.side)
        threshold = gap(expected_scores[SCORES.index(ZEROED_BY)])
        exact = numbers(network, cpu, torch.float32, route.side, threshold)
        for dtype in dtypes:
            kind = getattr(torch, dtype)
            found = numbers(network, device, kind, route.side, threshold)
            row = {"route": name, "dtype": dtype} | _differences(found, exact)
            if dtype == "float32":
                allowed = 1e-3
                row["fine"] = row["heads zeroed otherwise"] == 0 and row["tokens otherwise"] == 0
            else:
                own = _differences(numbers(network, cpu, kind, route.side, threshold), exact)
                row["scores, CPU"], row["logits, CPU"] = own["scores"], own["logits"]
                allowed = 1e-3 + 2 * max(own["scores"], own["logits"])
                row["fine"] = True
            row["fine"] &= max(row["scores"], row["logits"], row["shared prefixes"]) <= allowed
            yield row


def _differences(found: Numbers, exact: Numbers) -> dict[str, Any]:
    pairs = zip(found.written, exact.written, strict=True)
    return {
        "scores": difference(found.scores, exact.scores),
        "heads zeroed otherwise": int((found.zeroed != exact.zeroed).sum()),
        "logits": difference(found.whole, exact.whole),
        "shared prefixes": difference(found.fixed, found.whole),
        "tokens otherwise": sum(one != other for one, other in pairs),
    }
