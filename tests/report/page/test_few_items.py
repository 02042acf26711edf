"""What a page says where items are too few for an interval, and of very many items to tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from inactive_heads.analysis.curves.summary import summarize
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
