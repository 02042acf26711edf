"""The ranks of the paper's scores, whatever other scores were swept."""

import numpy as np
import pandas as pd
import pytest

from inactive_heads.analysis.curves.summary import summarize
from inactive_heads.names import PAPER_SCORES

PAPER = ["AHON (LN)", "AWFT", "AEQD", "AVVN"]
AT_10 = {
    "AHON (LN)": 2.1,
    "AWFT": 2.6,
    "AEQD": 2.6,
    "AVVN": 2.9,
    "RON": 2.01,
    "MINE": 2.3,
    "Random": 2.7,
}


def curves_of(names, task="texts"):
    """Losses that start at 2 and go through 10% as above."""
    rows = [
        {"model": "m", "task": task, "mode": "per-input", "score": name, "percent": percent}
        | {"percent_zeroed": percent, "loss": 2 + percent / 10 * (AT_10[name] - 2)}
        for name in names
        for percent in (0.0, 10.0, 20.0)
    ]
    return pd.DataFrame(rows).assign(accuracy=np.nan, threshold=np.nan, n=10)


@pytest.mark.parametrize("others", [[], ["Random"], ["RON"], ["RON", "MINE", "Random"]])
def test_ranks_among_the_papers_do_not_depend_on_others(others):
    assert {*PAPER} <= {*PAPER_SCORES}
    found = summarize(curves_of([*others, *PAPER]), None, percent=10).set_index("score")
    assert found.loc[PAPER, "paper_rank"].tolist() == [1, 2, 2, 4]
    assert found.loc[others, "paper_rank"].isna().all()
    # The rank is among all, and ties share one.
    better = [sum(AT_10[one] < AT_10[name] for one in [*others, *PAPER]) for name in PAPER]
    assert found.loc[PAPER, "rank"].tolist() == [1 + n for n in better]


def test_tasks_are_ranked_apart():
    both = pd.concat([curves_of(["RON", *PAPER]), curves_of(PAPER[::-1][:2], "others")])
    found = summarize(both, None, percent=10).set_index(["task", "score"])["paper_rank"]
    assert found["texts"].dropna().to_dict() == {"AHON (LN)": 1, "AWFT": 2, "AEQD": 2, "AVVN": 4}
    assert found["others"].to_dict() == {"AEQD": 1, "AVVN": 2}
