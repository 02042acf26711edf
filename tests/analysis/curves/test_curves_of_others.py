"""Tables of curves as people have them: read for what they say, or refused in one line."""

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.analysis import read_thresholds, threshold_stability
from inactive_heads.engines.lens import bridge_of

HEAD = "model,score,percent_zeroed,accuracy\n"
ROWS = "M,AWFT,0,60\nM,AWFT,10,50\n"
WIDE = "model,score,percent_zeroed,mmlu_accuracy,piqa_accuracy"


def read(tmp_path, text):
    path = tmp_path / "c.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ih.read_curves(path)


@pytest.mark.parametrize("name", ["None", "NA", "nan", "null", "NULL", "N/A", "007", "1e3", "True"])
def test_names_are_text(name, tmp_path):
    rows = f"{name},{name},0,60\n{name},{name},10,40\n"
    found = ih.rank_scores(read(tmp_path, HEAD + rows + ROWS))
    assert sorted(found[["model", "score", "normalized_auc"]].values.tolist()) == sorted(
        [[name, name, 50.0], ["M", "AWFT", 55.0]]
    )
    # … and again in what is written of them.
    found.to_csv(tmp_path / "ranking.csv", index=False)
    assert f"\n{name},unnamed task,per-input,{name}," in (tmp_path / "ranking.csv").read_text()
    curves = read(tmp_path, HEAD + rows)
    again = read(tmp_path, curves.to_csv(index=False))
    pd.testing.assert_frame_equal(curves, again)


@pytest.mark.parametrize("name", ["None", "NA", "007"])
def test_a_sweep_s_names_are_text(name, tmp_path):
    model = ih.as_model(bridge_of(tiny_llama(), name))
    task = ih.TextTask(name, [[1, 2, 3], [4, 5], [6, 7, 8]])
    curves = ih.sweep(
        model, task, scores="Random", percents=20, out=tmp_path / "run", progress=False
    )
    (found,) = ih.load_sweeps(tmp_path / "run")
    pd.testing.assert_frame_equal(found.curves, curves, check_dtype=False)
    assert len(found.points["Random", 20.0].items) == 3
    read_again = ih.read_curves(tmp_path / "run" / "curves.csv")
    assert read_again[["model", "task"]].values.tolist() == [[name, name]] * 2


@pytest.mark.parametrize("name", ["None", "NA", "7"])
def test_names_of_thresholds_are_text(name, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        f"task,model,score,percent,threshold\n{name},{name},{name},10,.5\nb,{name},{name},10,.7\n"
    )
    (row,) = threshold_stability(read_thresholds(path)).to_dict("records")
    assert (row["model"], row["score"], row[name], row["b"]) == (name, name, 0.5, 0.7)


SAME = {
    "semicolons": (HEAD + ROWS).replace(",", ";"),
    "tabs": (HEAD + ROWS).replace(",", "\t"),
    "a byte order mark": "\ufeff" + HEAD + ROWS,
    "Windows' lines": (HEAD + ROWS).replace("\n", "\r\n"),
    "empty lines": "\n" + HEAD + "\n" + ROWS + "\n\n",
    "another order": "accuracy,score,percent_zeroed,model\n60,AWFT,0,M\n50,AWFT,10,M\n",
    "capitals": "Model,SCORE,Percent_Zeroed,Accuracy\n" + ROWS,
    "spaces": "model, score, percent zeroed, accuracy\nM, AWFT, 0, 60\nM, AWFT, 10, 50\n",
    "an empty column": "model,score,percent_zeroed,accuracy,\nM,AWFT,0,60,\nM,AWFT,10,50,\n",
    "quotes": 'model,score,percent_zeroed,accuracy\n"M","AWFT",0,60\n"M",AWFT,"10",50\n',
    "another column": HEAD.replace("\n", ",note\n") + "M,AWFT,0,60,x\nM,AWFT,10,50,NA\n",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_the_same_curves_are_read_from_every_form(text, tmp_path):
    expected = read(tmp_path, HEAD + ROWS)
    pd.testing.assert_frame_equal(read(tmp_path, text)[expected.columns], expected)


def test_every_accuracy_is_a_task(tmp_path):
    text = f"{WIDE},MMLU Pro_accuracy\nM,A,0,60,80,30\nM,A,10,50,70,20\nN,A,0,90,,\nN,A,10,80,,\n"
    found = ih.rank_scores(read(tmp_path, text))
    assert sorted(found[["model", "task", "normalized_auc"]].values.tolist()) == [
        ["M", "MMLU Pro", 25.0],
        ["M", "mmlu", 55.0],
        ["M", "piqa", 75.0],
        ["N", "mmlu", 85.0],
    ]


REFUSED = {
    "130%": (HEAD + "M,A,0,130\n", "accuracy in row 0 is 130; it is a percentage"),
    "-5%": (HEAD + "M,A,0,60\nM,A,10,-5\n", "accuracy in row 1 is -5"),
    "infinite": (HEAD + "M,A,0,inf\n", "accuracy in row 0 is inf"),
    "fractions": (HEAD + "M,A,0,.6\nM,A,10,.5\n", "at most 0.6; it is given in %"),
    "fractions of one model": (HEAD + ROWS + "N,A,0,.6\nN,A,10,.5\n", "of N, .* at most 0.6"),
    "shares zeroed": (HEAD + "M,A,0,60\nM,A,.3,50\n", "percent_zeroed is at most 0.3"),
    "101% zeroed": (HEAD + "M,A,0,60\nM,A,101,50\n", "percent_zeroed in row 1 is 101"),
    "-1% zeroed": (HEAD + "M,A,-1,60\n", "percent_zeroed in row 0 is -1"),
    "nothing zeroed": (HEAD + "M,A,,60\n", "percent_zeroed in row 0 is missing"),
    "a point twice": (HEAD + ROWS + "M,AWFT,10,40\n", "'AWFT' at 10% twice"),
    "decimal commas": (
        (HEAD + "M,A,0,60.5\n").replace(",", ";").replace(".", ","),
        "12.5 with a point",
    ),
    "decimal commas between commas": (HEAD + "M,A,0,60,5\n", "line 2 has 5 cells, the header 4"),
    "thousands": (HEAD + 'M,A,0,"1,000"\n', "'1,000', not a number"),
    "percent signs": (HEAD + "M,A,0,60%\n", "'60%', not a number"),
    "a short row": (HEAD + "M,A,0\n", "line 2 has 3 cells"),
    "two columns of a name": ("model,model,score\n", "two columns are called 'model'"),
    "accuracy twice": (f"{WIDE},accuracy\nM,A,0,1,2,3\n", "accuracy and mmlu_accuracy; keep one"),
    "task twice": (f"{WIDE},task\nM,A,0,1,2,x\n", "columns task and mmlu_accuracy"),
    "whose interval": (f"{WIDE},ci_low\nM,A,0,10,20,3\n", "of which task is ci_low"),
    "no value": ("model,score,percent_zeroed\nM,A,0\n", "no column accuracy or loss"),
    "no percent": ("model,score,accuracy\nM,A,0\n", r"no column \['percent_zeroed'\]"),
    "an empty name": (HEAD + ",A,0,60\n", "model in row 0 is missing"),
    "empty": ("", "it is empty"),
    "a header only": (HEAD, "no row below its header"),
    "Latin-1": ((HEAD + "é,A,0,60\n").encode("latin-1"), "not UTF-8"),
    "UTF-16": ((HEAD + ROWS).encode("utf-16"), "not UTF-8"),
    "an open quote": (HEAD + '"M,A,0,60\n', "not a table in CSV"),
    "infinite loss": ("model,score,percent_zeroed,loss\nM,A,0,inf\n", "loss in row 0 is infinite"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_right_is_refused(text, message, tmp_path):
    with pytest.raises(ih.UserError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_missing_value_is_named_where_curves_are_ranked(tmp_path):
    curves = read(tmp_path, HEAD + ROWS + "N,A,0,60\nN,A,10,nan\n")
    with pytest.raises(ih.UserError, match=r"'A' \(N, .* not finite"):
        ih.rank_scores(curves)
    with pytest.raises(ih.UserError, match=r"'A' .*two different % zeroed"):
        ih.rank_scores(read(tmp_path, HEAD + "M,A,0,60\n"))


BARE = pd.DataFrame(
    {"model": "M", "score": "A", "percent_zeroed": [0, 10, 20], "accuracy": [60.0, 50, 40]}
)


@pytest.mark.parametrize(
    "table",
    [
        BARE,
        BARE.set_index("model"),
        BARE.set_index(["model", "score"]),
        BARE.set_axis(list("xyx")),
        BARE.astype({"model": "category", "score": "category"}),
        BARE.assign(accuracy=["60", "50", "40"]),
        BARE.rename(columns={"accuracy": "mmlu_accuracy"}),
        BARE[::-1],
    ],
)
def test_a_bare_table_is_ranked(table):
    (row,) = ih.rank_scores(table).to_dict("records")
    assert (row["model"], row["score"], row["rank"]) == ("M", "A", 1)
    assert (row["normalized_auc"], row["percent_within_1pt"]) == (50.0, 1.0)


@pytest.mark.parametrize("model", [7, 7.0, np.int64(7)])
def test_a_number_is_a_name(model):
    assert ih.rank_scores(BARE.assign(model=model))["model"].tolist() == ["7"]


def test_what_is_no_table_of_curves_is_refused():
    with pytest.raises(ih.UserError, match="model in row 0 is missing .pandas.read_csv"):
        ih.rank_scores(BARE.assign(model=np.nan))
    with pytest.raises(ih.UserError, match="row 1 is '5o', not a number"):
        ih.rank_scores(BARE.assign(accuracy=["60", "5o", "40"]))
    with pytest.raises(ih.UserError, match=r"no column \['percent_zeroed'\]"):
        ih.rank_scores(ih.rank_scores(BARE))


def test_a_curve_that_begins_late_is_noticed():
    late = BARE[BARE["percent_zeroed"] > 0]
    with pytest.warns(ih.Notice, match="'A' .M, .* measured from 10% on"):
        ih.rank_scores(late)
    ih.rank_scores(pd.concat([late, BARE.assign(score="Random")]))  # Random's point is a baseline
