"""The search that led to RON, over many candidate scores, on the half of the texts for choices.

Every candidate zeroes the same share of heads on the same texts, per input. `better_scores.py` runs
this search, and judges on the other half.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from damages import (
    Calibrated,
    Given,
    damage_alone,
    damage_of_layers,
    first_order,
    losses,
)
from relatives import (
    Readers,
    Relative,
    across_others,
    across_stream,
    over_stream_after,
    over_stream_before,
    share_of_layer,
)

import inactive_heads as ih
from inactive_heads.core.tensor_types import PerHead

PERCENTS = (10.0, 20.0)
CLOSE_ENOUGH, TRIES = 0.75, 2
"""The accepted difference between shares requested and zeroed, in points, and the attempts."""


class Candidate(NamedTuple):
    """A candidate score.

    Attributes:
        kind: the group in the table.
        name: the name in the table.
        score: the score.
        replacement: ``(layer, head, d_head)`` in place of zeroed heads; None for zero.
    """

    kind: str
    name: str
    score: ih.Score
    replacement: xr.DataArray | None = None


def search(
    model: ih.Model, texts: list[list[int]], others: list[list[int]], file: Path
) -> pd.DataFrame:
    """The increase in loss for every candidate, at 10% and at 20% of heads zeroed.

    Args:
        model: built like Llama, in the flash engine.
        texts: token ids; candidates are swept on these.
        others: token ids; candidates are calibrated on these.
        file: a CSV of finished candidates; an interrupted search resumes from it.

    Returns:
        One row per candidate: ``kind``, ``score``, ``seconds``, and for each percentage p:
        ``change_p``, the increase in nats per token, mean over texts; ``zeroed_p``, the percentage
        of heads zeroed there, less than p if the score did not reach it; ``vs_ron_p``, the change
        minus RON's, with ``vs_ron_low_p`` and ``vs_ron_high_p``, its paired 95% interval.
    """
    before, _ = losses(model, texts)
    done = pd.read_csv(file).to_dict("records") if file.exists() else []
    finished = {row["score"] for row in done}
    began, ron = time.time(), {}
    for candidate in candidates(model, texts, others):
        if candidate.name in finished and candidate.name != "RON":
            continue
        row: dict[str, object] = {"kind": candidate.kind, "score": candidate.name}
        scored = ih.score_heads(model, texts, scores=[candidate.score], progress=False)
        for percent in PERCENTS:
            zeroed, change = _at_share(model, texts, candidate, scored, percent, before)
            if candidate.name == "RON":
                ron[percent] = change
            lead = ih.paired_change(change, ron[percent], np.ones(len(texts)))
            row |= {f"change_{percent:g}": change.mean(), f"zeroed_{percent:g}": zeroed}
            named = (f"vs_ron_{percent:g}", f"vs_ron_low_{percent:g}", f"vs_ron_high_{percent:g}")
            row |= dict(zip(named, lead, strict=True))
        if candidate.name not in finished:
            done.append(row | {"seconds": time.time() - began})
            pd.DataFrame(done).to_csv(file, index=False)
            shown = ", ".join(f"{row[f'change_{p:g}']:+.3f} at {p:g}%" for p in PERCENTS)
            print(f"{model.name}, search: {candidate.name}: {shown}", flush=True)
        began = time.time()
    return pd.DataFrame(done)


def _at_share(
    model: ih.Model,
    texts: list[list[int]],
    candidate: Candidate,
    scored: xr.DataArray,
    percent: float,
    before: np.ndarray,
) -> tuple[float, np.ndarray]:
    """The percentage zeroed, and each text's increase in loss there.

    Zeroing in earlier layers changes the scores in later ones, so that the share zeroed differs
    from the one requested. The request is then corrected, and the increase is interpolated
    linearly between the points.
    """
    asked, shares, rises = percent, [0.0], [np.zeros(len(texts))]
    for _ in range(TRIES):
        threshold = float(ih.choose_thresholds(scored, [asked]).item())
        ablation = ih.PerInput(candidate.score, threshold, candidate.replacement)
        after, share = losses(model, texts, ablation)
        shares.append(share)
        rises.append(after - before)
        if abs(share - percent) < CLOSE_ENOUGH or share == 0:
            break
        asked = min(100.0, asked * percent / share)
    order = np.argsort(shares)
    at = min(percent, max(shares))
    # Each point's weight in the interpolation, the same for every text.
    parts = [np.interp(at, np.sort(shares), alone) for alone in np.eye(len(shares))]
    return at, np.array(parts) @ np.array(rises)[order]


def candidates(
    model: ih.Model, texts: list[list[int]], others: list[list[int]]
) -> Iterator[Candidate]:
    """All candidates, RON first.

    Args:
        model: built like Llama, in the flash engine.
        texts: token ids; candidates are swept on these.
        others: token ids; candidates are calibrated on these.

    Yields:
        Each candidate; what it needs is computed when it is reached.
    """
    for name in ("RON", "AHON (LN)", "RON (LN)", "RRN"):
        yield Candidate("as they are in the library", name, ih.get_score(name))
    yield from _lengths()
    yield from _readers(Readers(model))
    yield from _poolings()
    yield from _combinations(model)
    yield from _first_orders(model, texts)
    yield from _calibrated(model, texts, others)
    yield from _replacing(model, others)


def _lengths() -> Iterator[Candidate]:
    lengths = {
        "w over x before the heads": over_stream_before,
        "w over x": over_stream_after,
        "w across x, over x": across_stream,
        "w across the layer's other heads, over x": across_others,
        "w over the sum of the layer's heads": share_of_layer,
    }
    for name, function in lengths.items():
        yield Candidate("lengths, no readers", name, _below(name, Relative(function)))


def _readers(readers: Readers) -> Iterator[Candidate]:
    found = {
        "gain of the layer's own MLP": readers.gains("own mlp"),
        "gains of later readers, each of size 1": readers.gains("later, of equal size"),
        "gains of later readers, summed": readers.number(),
        "gain of the last norm": readers.gains("last"),
        "weights of the layer's own MLP": readers.weights("own mlp"),
        "weights of later readers": readers.weights("later"),
        "weights of the unembedding": readers.weights("unembedding"),
    }
    for name, lengths in found.items():
        yield Candidate("other readers", name, _below(name, Relative(lengths)))


def _poolings() -> Iterator[Candidate]:
    for pooling in ("mean", "max", "last", "geometric", "rms, first token in"):
        name = f"RON, over tokens: {pooling}"
        score = _below(name, Relative(lambda heads: heads.read_norm, pooling))  # type: ignore[arg-type]
        yield Candidate("other ways over tokens", name, score)


def _combinations(model: ih.Model) -> Iterator[Candidate]:
    ron, ahon, awft = (ih.get_score(name) for name in ("RON", "AHON (LN)", "AWFT"))
    found = {
        "root of RON × AHON (LN)": lambda heads: (ron(heads) * ahon(heads)).sqrt(),
        "root of RON × (1 - AWFT)": lambda heads: (ron(heads) * (1 - awft(heads)).clamp(0)).sqrt(),
    }
    for name, function in found.items():
        yield Candidate("combinations", name, _below(name, function))
    left = 1 - np.arange(len(model.shape.layers)) / len(model.shape.layers)
    for name, factors in {"RON × layers left": left, "RON × their root": left**0.5}.items():
        yield Candidate("combinations", name, _calibrate(name, ron, factors[:, None], model))


def _first_orders(model: ih.Model, texts: list[list[int]]) -> Iterator[Candidate]:
    own = first_order(model, texts)
    for name, values in {
        "rise of the loss": own.loss,
        "rise of the loss, token by token, without sign": own.tokens,
        "rise for tokens drawn from the model's predictions, squared": own.drawn,
    }.items():
        score = _below(name, Given(values, model.shape.layers))
        yield Candidate("first order, a backward pass on the input itself", name, score)


def _calibrated(
    model: ih.Model, texts: list[list[int]], others: list[list[int]]
) -> Iterator[Candidate]:
    names = ["RON", "AHON (LN)", "AWFT"]
    means = ih.score_heads(model, others, scores=names, progress=False).mean("sample").values
    first = first_order(model, others)
    alone = damage_alone(model, others)
    damages = {
        "damage alone": alone,
        "first order, without sign": first.tokens.mean(axis=0),
        "first order, squared": first.drawn.mean(axis=0),
        "RON": means[0],
    }
    for name, damage in damages.items():
        called, every = f"{name}, of other texts", (len(texts), *damage.shape)
        score = _below(called, Given(np.broadcast_to(damage, every), model.shape.layers))
        yield Candidate("calibrated: one order of heads for all inputs", called, score)
    # Factors must be positive: a decrease in loss counts as almost no damage.
    damages["damage alone"] = alone.clip(min=1e-3)
    kind, ron, ahon = "calibrated on other texts", ih.get_score("RON"), ih.get_score("AHON (LN)")
    for name, damage in list(damages.items())[:-1]:
        called = f"RON × ({name} / RON)"
        yield Candidate(kind, called, _calibrate(called, ron, damage / means[0], model))
    called, damage = "AHON (LN) × (damage alone / AHON (LN))", damages["damage alone"]
    yield Candidate(kind, called, _calibrate(called, ahon, damage / means[1], model))
    budgets = damage_of_layers(model, others, "RON")[:, None] ** 0.5
    called = "RON × root of its layer's damage per RON²"
    yield Candidate(kind, called, _calibrate(called, ron, budgets, model))
    logs = np.log([means[0], means[1], (1 - means[2]).clip(1e-6)]).reshape(3, -1)
    design = np.vstack([logs, np.ones(logs.shape[1])]).T
    powers, *_ = np.linalg.lstsq(design, np.log(damage).ravel(), rcond=None)
    called = "powers of RON, AHON (LN), 1 - AWFT fitted to damage alone"
    yield Candidate(kind, called, _below(called, _Powers(powers)))


def _replacing(model: ih.Model, others: list[list[int]]) -> Iterator[Candidate]:
    means = ih.mean_head_outputs(model, others, progress=False)
    rod = ih.read_output_distance(means)
    yield Candidate("distance to the mean, zeroed", "ROD", rod)
    for score in (ih.get_score("AHON (LN)"), ih.get_score("RON"), rod):
        name = f"{score.name}, mean in place"
        yield Candidate("the mean of other texts in a head's place, not zero", name, score, means)


@dataclass(frozen=True, eq=False)
class _Powers:
    """A product of powers of three scores."""

    powers: Sequence[float]

    def __call__(self, heads: ih.HeadActivations) -> PerHead:
        ron, ahon, awft = (ih.get_score(name)(heads) for name in ("RON", "AHON (LN)", "AWFT"))
        factors = (ron.clamp(1e-9), ahon.clamp(1e-9), (1 - awft).clamp(1e-6))
        a, b, c = (x ** float(p) for x, p in zip(factors, self.powers, strict=False))
        return a * b * c


def _calibrate(name: str, score: ih.Score, factors: np.ndarray, model: ih.Model) -> ih.Score:
    return _below(name, Calibrated(score, factors, model.shape.layers))


def _below(name: str, function: object) -> ih.Score:
    return ih.Score(name, function, "below")  # type: ignore[arg-type]
