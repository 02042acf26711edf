"""What a page says where items are too few for an interval, and of very many items to tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from inactive_heads.analysis.curves.summary import summarize
from inactive_heads.report.answer import answer_of
from inactive_heads.report.page.summary_tables import summary_tables
from inactive_heads.report.page.verdict import verdict

NOT_SHOWN = "95% intervals are not shown: fewer than 10 texts."


def curves(n: int, *, intervals: bool) -> pd.DataFrame:
    rows = []
    for score, loss in (("AHON (LN)", 3.1), ("AWFT", 3.2), ("Random", 3.4)):
        for percent, value in ((0.0, 3.0), (10.0, loss)):
            ends = (value - 0.1, value + 0.1) if intervals else (np.nan, np.nan)
            row = {"model": "m", "task": "text-loss", "mode": "per-input", "score": score, "n": n}
            row |= {"percent": percent, "percent_zeroed": percent, "loss": value}
            rows.append(row | dict(zip(("loss_low", "loss_high"), ends, strict=True)))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("n", "intervals"), [(9, False), (9, True), (10, False)])
def test_where_few_texts_have_no_interval_the_page_says_so(n, intervals):
    """Intervals that come with a table from elsewhere are shown, whatever the number of texts."""
    table = curves(n, intervals=intervals)
    summary = summarize(table, None, percent=10)
    said = n == 9 and not intervals
    assert (NOT_SHOWN in " ".join(verdict(summary, table))) == said
    (shown,) = summary_tables(summary, table, {}, several=False)
    assert (NOT_SHOWN in shown.note) == said
    assert any("interval" in heading for heading in shown.columns) == intervals


@pytest.mark.parametrize(
    ("low", "many", "words"),
    [
        (np.nan, 350.0, "is not tested; confirming it would take about 350 texts."),
        (-np.inf, 350.0, "is not significant; confirming it would take about 350 texts."),
        (-0.1, 10_001.0, "is not significant; confirming it would take more than 10,000 texts."),
        (-0.1, np.inf, "is not significant; confirming it would take more than 10,000 texts."),
    ],
)
def test_what_is_said_of_the_lead(low, many, words):
    table = curves(9, intervals=False)
    summary = summarize(table, None, percent=10)
    sure = {"lead": 0.05, "lead_low": low, "better_than_next": False, "n_to_tell": many}
    text = " ".join(verdict(summary.assign(**sure), table))
    assert f"The lead of AHON (LN) over the runner-up, AWFT, {words}" in text


def test_an_answer_names_the_scores_that_tie_with_its_own():
    values = np.arange(12.0).reshape(1, 1, 3, 4)
    scores = xr.DataArray(
        np.concatenate([values, -values, values]),
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["AWFT", "AHON", "AHON (LN)"], "inactive": ("score", ["above"] * 3)}
        | {"sample": [0], "layer": range(3), "head": range(4)},
    )
    summary = pd.DataFrame({"score": ["AHON", "AWFT", "AHON (LN)", "Random"], "loss": 3.0})
    found = answer_of(scores, summary.assign(rank=[1, 1, 3, 4]), 25)
    assert (found.score, found.tied) == ("AHON", ("AWFT",))
    assert answer_of(scores, summary.assign(rank=[1, 2, 2, 4]), 25).tied == ()
    assert answer_of(scores, None, 25).tied == ()
