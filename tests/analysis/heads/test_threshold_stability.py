"""Thresholds of one share on several data sets: by hand, and the published ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.places import SHARED

from inactive_heads.analysis import (
    read_thresholds,
    threshold_stability,
    thresholds_of_curves,
    thresholds_table,
)
from inactive_heads.errors import UserError

PUBLISHED = SHARED / "paper" / "thresholds.csv"


def table(rows: list[tuple[str, str, float, float]]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["task", "score", "percent", "threshold"])
    return found.assign(model="m")


def test_thresholds_side_by_side_by_hand():
    found = threshold_stability(
        table([("a", "S", 10, 1.0), ("b", "S", 10, 3.0), ("c", "S", 10, 2.0), ("a", "T", 10, 0.5)])
    )
    assert list(found.columns) == ["model", "score", "percent", *"abc", "spread", "relative_spread"]
    first, alone = (row for _, row in found.iterrows())
    assert first[["a", "b", "c"]].tolist() == [1, 3, 2]
    assert (first["spread"], first["relative_spread"]) == (2, 1)
    assert np.isnan(alone["spread"]), "one data set has no spread"
    assert np.isnan(alone["b"])


def test_zero_thresholds_have_no_relative_spread():
    found = threshold_stability(table([("a", "S", 10, 0.0), ("b", "S", 10, 0.0)])).iloc[0]
    assert found["spread"] == 0
    assert np.isnan(found["relative_spread"])


def test_what_is_ambiguous_is_refused():
    with pytest.raises(UserError, match=r"two thresholds for m, S, 10%, a"):
        threshold_stability(table([("a", "S", 10, 1.0), ("a", "S", 10, 2.0)]))
    with pytest.raises(UserError, match="'spread'"):
        threshold_stability(table([("spread", "S", 10, 1.0)]))


def test_thresholds_of_our_own_results():
    cuts = xr.DataArray(
        [[0.1, 0.2]], dims=("score", "percent"), coords={"score": ["S"], "percent": [5.0, 10.0]}
    )
    found = thresholds_table(cuts, model="m", task="stories")
    assert found["threshold"].tolist() == [0.1, 0.2]
    curves = pd.DataFrame(
        {
            "task": "quiz",
            "model": "m",
            "score": ["S", "S", "Random"],
            "percent": [0.0, 10.0, 10.0],
            "threshold": [np.nan, 0.3, np.nan],
        }
    )
    both = pd.concat([found, thresholds_of_curves(curves)])
    wide = threshold_stability(both).set_index("percent")
    assert wide.loc[10.0, ["stories", "quiz"]].tolist() == [0.2, 0.3]
    assert wide.loc[10.0, "spread"] == pytest.approx(0.1)


def test_files_of_thresholds_name_what_is_wrong(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("task,model,score,percent,threshold\nq,m,S,10,abc\n")
    with pytest.raises(UserError, match=r"threshold in row 0 is 'abc', not a number"):
        read_thresholds(path)
    path.write_text("task,model,score,percent,threshold\nq,m,S,10,1\nq,m,S,20,\n")
    with pytest.raises(UserError, match=r"threshold in row 1 is empty"):
        read_thresholds(path)
    path.write_text("task,model\n")
    with pytest.raises(UserError, match="no column"):
        read_thresholds(path)
    with pytest.raises(UserError, match=r"cannot read .*none\.csv"):
        read_thresholds(tmp_path / "none.csv")


def test_what_a_file_of_thresholds_may_hold(tmp_path):
    path = tmp_path / "t.csv"
    head = "task,model,score,percent,threshold,note\n"
    path.write_text(f"{head}q,m,S,0,-1e300,x\nq,m,S,100,1e300,y\nq,m,S,99.5,0,z\n")
    found = read_thresholds(path)
    assert list(found) == ["task", "model", "score", "percent", "threshold"]
    assert found["percent"].tolist() == [0, 100, 99.5]
    assert found["threshold"].tolist() == [-1e300, 1e300, 0]
    for cells, message in (
        ("-0.5,1", "percent in row 0 is -0.5, not a percentage from 0 to 100"),
        ("100.5,1", "percent in row 0 is 100.5, not a percentage"),
        ("10,inf", "threshold in row 0 is inf, not a finite number"),
        ("10,-inf", "threshold in row 0 is -inf, not a finite number"),
        (",1", "percent in row 0 is empty"),
    ):
        path.write_text(f"{head}q,m,S,{cells},\n")
        with pytest.raises(UserError, match=message):
            read_thresholds(path)


def test_rows_stand_in_the_order_in_which_they_appear():
    rows = [("z", "T", 20, 1.0), ("a", "S", 5, 2.0), ("a", "T", 20, -3.0), ("z", "S", 5, 2.0)]
    found = threshold_stability(table(rows))
    assert found[["score", "percent"]].to_numpy().tolist() == [["T", 20], ["S", 5]]
    assert found[["z", "a"]].to_numpy().tolist() == [[1, -3], [2, 2]]
    assert found[["spread", "relative_spread"]].to_numpy().tolist() == [[4, 2], [0, 0]]
    assert list(found)[3:5] == ["z", "a"]


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"no published thresholds at {PUBLISHED}")
def test_published_thresholds():
    found = threshold_stability(read_thresholds(PUBLISHED))
    at = found.set_index(["model", "score", "percent"])
    tasks, model = ["mmlu", "piqa", "winogrande"], "OLMo-2-1124-7B-Instruct"
    weights, outputs = at.loc[(model, "AWFT", 15)], at.loc[(model, "AHON (LN)", 15)]
    assert weights[tasks].tolist() == pytest.approx([0.077, 0.265, 0.109], abs=0.0005)
    assert outputs[tasks].tolist() == pytest.approx([0.457, 0.435, 0.473], abs=0.0005)
    assert weights["spread"] == pytest.approx(0.265 - 0.077, abs=0.001)
    assert outputs["relative_spread"] < 0.1 < weights["relative_spread"]
