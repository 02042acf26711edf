"""The texts that judge scores, and the comparison kind by kind."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import tiny_llama
from score_judging import BASELINES, BEST, OURS, by_kind, halves

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.evaluation.outcomes import Outcomes
from inactive_heads.models.model import Model
from inactive_heads.sweeps.results import Sweep

LENGTH = 30


def model_of(encode):
    return Model(FlashEngine(tiny_llama(), "tiny"), None, {"model": "tiny"}, encode)


def test_the_halves_have_as_many_texts_of_every_kind_and_none_in_common():
    # Tokens by which texts are told apart: one per character from the end on.
    model = model_of(lambda text: [ord(letter) % 97 for letter in text[:-61:-1]])
    choice, judging = halves(model, LENGTH)
    assert len(choice) == len(judging) == 36
    for half in (choice, judging):
        assert set(Counter(half.kinds()).values()) == {6}
        assert len(set(half.kinds()[:6])) == 6  # they take turns
        assert {len(tokens) for tokens in half.samples} == {LENGTH}
    every = {tuple(tokens) for half in (choice, judging) for tokens in half.samples}
    assert len(every) == 72
    kinds = ih.load_task("text-loss").kinds()
    kind_of = dict(zip(map(tuple, ih.cut_to(model, ih.load_texts(), LENGTH)), kinds, strict=True))
    for half in (choice, judging):
        assert half.kinds() == [kind_of[tuple(tokens)] for tokens in half.samples]


def test_texts_that_are_too_short_are_left_out_with_their_kinds():
    texts = ih.load_texts()
    short = set(texts[3:8])
    model = model_of(lambda text: [texts.index(text)] * (LENGTH - (text in short)))
    kinds = ih.load_task("text-loss").kinds()
    for half in halves(model, LENGTH):
        assert half.kinds() == [kinds[tokens[0]] for tokens in half.samples]
        assert not {tokens[0] for tokens in half.samples} & set(range(3, 8))


KINDS = ["news", "code", "news", "code", "news"]


def made_up(score_by_percent, rng):
    """A score's outcomes at each percent, with shares that differ from text to text."""
    return {
        percent: Outcomes(
            pd.DataFrame(
                {
                    "id": [f"text-{i}" for i in range(len(KINDS))],
                    "loss": 3 + rng.normal(size=len(KINDS)),
                    "n_tokens": [191] * len(KINDS),
                    "percent_zeroed": shares,
                }
            ),
            "loss",
            float(np.mean(shares)),
        )
        for percent, shares in score_by_percent.items()
    }


def test_every_kind_is_compared_on_its_own_texts_and_shares():
    rng = np.random.default_rng(0)
    none = [0.0] * len(KINDS)
    shares = {
        OURS: {0.0: none, 10.0: [9, 12, 9, 12, 9], 20.0: [21, 24, 21, 24, 21]},
        BEST: {0.0: none, 10.0: [10, 10, 10, 10, 10], 20.0: [20, 20, 20, 20, 20]},
    }
    shares |= dict.fromkeys(BASELINES, shares[BEST])
    made = {name: made_up(one, rng) for name, one in shares.items()}
    points = {(name, percent): one for name, each in made.items() for percent, one in each.items()}
    table = by_kind(Sweep(pd.DataFrame(), points, None), KINDS)
    assert len(table) == 2 * 2 * (1 + len(BASELINES))
    assert table.groupby("kind")["n"].first().to_dict() == {"news": 3, "code": 2}
    for row in table.itertuples():
        here = [i for i, kind in enumerate(KINDS) if kind == row.kind]
        means = {}
        for name in (OURS, row.against):
            percents = [np.mean([shares[name][p][i] for i in here]) for p in (0.0, 10.0, 20.0)]
            losses = [made[name][p].items["loss"].iloc[here].mean() for p in (0.0, 10.0, 20.0)]
            means[name] = np.interp(row.percent, percents, losses)
        assert row.compared_at == row.percent
        assert row.score == OURS
        assert row.difference == pytest.approx(means[OURS] - means[row.against])
