"""The contract of a score function, clause by clause, each checked on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import PerHead
from inactive_heads.scores.check.altered import (
    ALTERED_HEAD,
    rounded,
    spoil_padding,
    with_sink,
    with_small_output,
    without_token_ids,
)
from inactive_heads.scores.check.tiny_models import (
    grouped_model,
    hooked_model,
    new_plain_model,
    plain_model,
    ungrouped_model,
)
from inactive_heads.scores.check.trial import (
    Failed,
    ScoreValues,
    Trial,
    copied,
    padded,
    with_stored_pattern,
)

Outcome = Literal["passed", "failed", "not decided"]


Judgement = tuple[Outcome, str]


SAMPLES = ([0, 11, 3, 96, 4, 8, 45], [5, 7, 9, 60, 2, 2, 31], [80, 1, 23, 50, 12, 77, 6])
"""Three inputs of equal length. The first begins with token 0, which stands for BOS."""


TOLERANCE = 1e-3
"""The largest accepted difference between two computations of a score, relative to the largest
score in the layer."""


@dataclass(frozen=True)
class Clause:
    """A clause of the contract.

    Attributes:
        name: shown in findings.
        judge: returns "passed" or "not decided", with the reason; raises `Failed` otherwise.
        needs: names of earlier clauses; if one failed, this clause is not decided.
    """

    name: str
    judge: Callable[[Trial], Judgement]
    needs: tuple[str, ...] = ()


def _shape(trial: Trial) -> Judgement:
    trial.visit(plain_model(), TokenBatch.of(SAMPLES), lambda heads: trial.shaped(copied(heads)))
    expected = len(SAMPLES), plain_model().shape.n_heads
    return "passed", f"(batch, head) = {expected}, one number per input and head"


def _grouped_query(trial: Trial) -> Judgement:
    shape, batch = grouped_model().shape, TokenBatch.of(SAMPLES)
    groups = f"{shape.n_heads} query heads that share {shape.n_key_value_heads} key/value heads"
    try:
        found = trial.scores(grouped_model(), batch)
    except Failed as failure:
        raise Failed(
            f"with {groups}, {failure}: heads.v and heads.v_norm are per query head, heads.values "
            "are not"
        ) from failure
    _assert_same_scores(
        found,
        trial.scores(ungrouped_model(), batch),
        f"with {groups}",
        "with each head's keys and values written out: query heads of a group stand side by side",
    )
    return "passed", f"one number per query head, with {groups}"


def _finite(trial: Trial) -> Judgement:
    found = trial.scores(plain_model(), TokenBatch.of(SAMPLES))
    if bool(found.isnan().any()):  # only ratios may return NaN
        raise Failed("the ratio is undefined (NaN) for heads that attend and put out like others")
    return "passed", f"from {float(found.min()):.3g} to {float(found.max()):.3g}"


def _one_token(trial: Trial) -> Judgement:
    try:
        found = trial.scores(plain_model(), TokenBatch.of([[5], [40]]))
    except Failed as failure:
        raise Failed(
            f"on inputs of a single token, {failure}; what has no value there needs one that stands "
            "for it, such as 0 for a spread"
        ) from failure
    if bool(found.isnan().any()):
        return "passed", "NaN on a single token, where the ratio is undefined: heads are active"
    return "passed", "finite on an input of a single token"


def _repeatable(trial: Trial) -> Judgement:
    first, second = (trial.scores(plain_model(), TokenBatch.of(SAMPLES)) for _ in range(2))
    _assert_same_scores(
        second, first, "computed once more", "the first time: a score draws no random numbers"
    )
    return "passed", "the same when computed once more"


def _padding(trial: Trial) -> Judgement:
    sample = SAMPLES[0]
    expected = trial.scores(plain_model(), padded(sample, 0, 0))
    mend = "without: heads.mean_over_tokens, at_first_token and at_last_token leave padding out"
    for left, right in ((0, 3), (3, 0)):
        where = f"with {left} tokens of padding before and {right} after the input"
        batch = padded(sample, left, right)
        _assert_same_scores(trial.scores(plain_model(), batch), expected, where, mend)
        try:
            trial.scores(plain_model(), batch, spoil_padding)
        except Failed as failure:
            raise Failed(
                f"{where}, and NaN in it, {failure}: use torch.where to leave padding out, not a "
                "product with the mask, as NaN times 0 is NaN"
            ) from failure
    return "passed", "padding on either side changes nothing, even if it holds NaN"


def _batch_composition(trial: Trial) -> Judgement:
    together = trial.scores(plain_model(), TokenBatch.of(SAMPLES))
    alone = [trial.scores(plain_model(), TokenBatch.of([sample])) for sample in SAMPLES]
    _assert_same_scores(
        together, torch.cat(alone), "in a batch of three", "alone: it mixes inputs of a batch"
    )
    return "passed", "an input's score is the same alone and among others"


def _bos(trial: Trial) -> Judgement:
    for start, sample in (("with", SAMPLES[0]), ("without", SAMPLES[0][1:])):
        batch = TokenBatch.of([sample])
        _assert_same_scores(
            trial.scores(plain_model(), batch, without_token_ids),
            trial.scores(plain_model(), batch),
            f"{start} BOS, and token ids not known",
            "with the ids: it must not ask for them, as an ActivationCache has none; the first "
            "token is the one at heads.batch.first, BOS or not",
        )
    return "passed", "finite with BOS and without; no token id is asked for"


def _dtype(trial: Trial) -> Judgement:
    batch = TokenBatch.of(SAMPLES)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        _assert_same_scores(
            trial.scores(plain_model(), batch, partial(rounded, to=dtype, held_in=dtype)),
            trial.scores(plain_model(), batch, partial(rounded, to=dtype, held_in=torch.float32)),
            f"on activations in {name}",
            "on the same numbers in float32: compute with heads.v, heads.z and their norms, which "
            "are float32 always; heads.values and heads.outputs have the model's dtype",
            tolerance=1e-4,
        )
    return "passed", "computed in float32 whatever the model's dtype"


def _direction(trial: Trial) -> Judgement:
    batch, side = TokenBatch.of(SAMPLES), trial.score.inactive
    before = trial.scores(plain_model(), batch, with_stored_pattern)[..., ALTERED_HEAD]
    least, right, unsaid = TOLERANCE * before.abs().max(), [], []
    for what, make in (
        ("a thousandth of its output left", with_small_output),
        ("all its attention on a first token of value 0", with_sink),
    ):
        try:
            after = trial.scores(plain_model(), batch, make)[..., ALTERED_HEAD]
        except Failed:
            unsaid.append(f"a head with {what} has no finite score")
            continue
        if bool(after.isnan().any()):
            unsaid.append(f"with {what} it is undefined")
            continue
        moved = after - before if side == "above" else before - after
        if bool((moved < -least).all()):
            raise Failed(
                f'it is declared inactive="{side}", but with {what}, L0H{ALTERED_HEAD} of input 0 goes '
                f"from {float(before[0, 0]):.4g} to {float(after[0, 0]):.4g}, the active side"
            )
        if bool((moved > least).all()):
            right.append(what)
        else:
            unsaid.append(f"one with {what} does not go to either side")
    if right:
        return "passed", f"a head with {' or '.join(right)} goes {side} what it was"
    return "not decided", "; ".join(unsaid)


def _input_unchanged(trial: Trial) -> Judgement:
    def look(heads: HeadActivations) -> PerHead:
        own, kept = with_stored_pattern(heads), with_stored_pattern(heads)
        versions = {name: tensor._version for name, tensor in _named_inputs(own).items()}
        found = trial(own)
        for name, tensor in _named_inputs(own).items():
            if tensor._version != versions[name] or not tensor.equal(_named_inputs(kept)[name]):
                raise Failed(
                    f"it writes into {name} of layer {heads.layer}, with which the model and other "
                    "scores go on; work on a copy (.clone()), or without the operations of torch "
                    "that work in place (their names end in _)"
                )
        for name in _cached_statistics(own):
            _assert_unchanged(getattr(own, name), getattr(kept, name), f"heads.{name}")
        return found

    trial.visit(plain_model(), padded(SAMPLES[0], 0, 2), look)
    return "passed", "v, z, the pattern and what is computed of them stay as they were"


def _model_unchanged(trial: Trial) -> Judgement:
    engine, batch = new_plain_model(), TokenBatch.of(SAMPLES)  # not the shared model
    weights = {name: weight.clone() for name, weight in engine.network.state_dict().items()}
    roots = {layer: engine.path(layer).root.clone() for layer in engine.shape.layers}
    logits = engine.run(batch)

    def exposed(heads: HeadActivations) -> HeadActivations:
        return replace(copied(heads), path=heads.path)

    trial.scores(engine, batch, exposed)
    for name, weight in engine.network.state_dict().items():
        _assert_unchanged(weight, weights[name], f"the model's weights {name}")
    for layer, root in roots.items():
        _assert_unchanged(engine.path(layer).root, root, f"heads.path.root of layer {layer}")
    _assert_unchanged(engine.run(batch), logits, "what the model predicts afterwards")
    return "passed", "weights and next-token logits are the same afterwards"


def _engines(trial: Trial) -> Judgement:
    batch = TokenBatch.of([SAMPLES[0], SAMPLES[1]])
    flash, lens = (trial.scores(engine, batch) for engine in (plain_model(), hooked_model()))
    _assert_same_scores(flash, lens, "by the engine flash", "by the engine lens")
    return "passed", "the engines flash and lens agree"


_COMPARED = ("shape", "finite", "repeatable")


CLAUSES = (
    Clause("shape", _shape),
    Clause("finite", _finite, ("shape",)),
    Clause("one token", _one_token, ("shape", "finite")),
    Clause("repeatable", _repeatable, ("shape", "finite")),
    Clause("grouped-query attention", _grouped_query, _COMPARED),
    Clause("padding", _padding, _COMPARED),
    Clause("batch composition", _batch_composition, _COMPARED),
    Clause("BOS", _bos, _COMPARED),
    Clause("dtype", _dtype, _COMPARED),
    Clause("direction", _direction, _COMPARED),
    Clause("input unchanged", _input_unchanged, ("shape", "finite")),
    Clause("model unchanged", _model_unchanged, ("shape", "finite")),
    Clause("engines", _engines, _COMPARED),
)


def _assert_same_scores(
    found: ScoreValues, expected: ScoreValues, what: str, other: str, tolerance: float = TOLERANCE
) -> None:
    """Raises `Failed`, naming the head that differs most, if scores differ; NaN equals NaN."""
    apart = (found - expected).abs()
    apart[found.isnan() & expected.isnan()] = 0
    apart = apart.nan_to_num(nan=torch.inf)
    largest = expected.abs().nan_to_num().amax(dim=(0, 2), keepdim=True)
    if bool((apart > tolerance * largest).any()):
        row, layer, head = torch.nonzero(
            apart - tolerance * largest == (apart - tolerance * largest).max()
        )[0].tolist()
        own, wanted = float(found[row, layer, head]), float(expected[row, layer, head])
        raise Failed(
            f"{what}, L{layer}H{head} of input {row} is {own:.4g}, not {wanted:.4g} as {other}"
        )


def _assert_unchanged(now: Tensor, before: Tensor, name: str) -> None:
    if not now.allclose(before, rtol=1e-6, equal_nan=True):
        raise Failed(f"it changes {name}; work on a copy (.clone())")


def _named_inputs(heads: HeadActivations) -> dict[str, Tensor]:
    """The tensors that a score receives, by the names that messages use."""
    assert isinstance(heads.attention, PatternStatistics), "the pattern is stored"
    return {
        "v": heads.values,
        "z": heads.outputs,
        "the pattern": heads.attention.weights,
        "the residual stream": heads.stream(),
        "the tokens": heads.batch.tokens,
        "the mask": heads.batch.mask,
    }


def _cached_statistics(heads: HeadActivations) -> list[str]:
    """The names of the cached statistics that the score computed and other scores share."""
    kind = type(heads)
    return [name for name in vars(heads) if isinstance(getattr(kind, name, None), cached_property)]
