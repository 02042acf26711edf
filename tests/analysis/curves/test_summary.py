"""A summary takes the certainty of its rankings in, row by row."""

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.summary import (
    RANKING_COLUMNS,
    SUMMARY_COLUMNS,
    with_certainty,
)


def test_each_row_gets_the_numbers_of_its_score_and_task():
    pairs = [("t", "A"), ("t", "B"), ("u", "A")]
    summary = pd.DataFrame(
        [{"task": task, "score": score} for task, score in pairs], columns=SUMMARY_COLUMNS
    )
    ranking = pd.DataFrame({"score": ["B", "A"]})
    for place, column in enumerate(RANKING_COLUMNS):
        ranking[column] = [10.0 + place, 20.0 + place]
    found = with_certainty(summary, {"t": ranking})
    assert list(found) == list(SUMMARY_COLUMNS)
    assert list(zip(found["task"], found["score"], strict=True)) == pairs
    for place, column in enumerate(RANKING_COLUMNS):
        np.testing.assert_array_equal(found[column], [20.0 + place, 10.0 + place, np.nan])
    pd.testing.assert_frame_equal(with_certainty(summary, {}), summary)
