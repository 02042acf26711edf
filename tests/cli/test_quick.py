"""`report --quick`: text loss alone, four scores and three shares, where others are not given."""

import pytest
from typer.testing import CliRunner

from inactive_heads.checks import check_percents, check_score_names
from inactive_heads.cli.app import app
from inactive_heads.cli.options import listed, numbers
from inactive_heads.cli.report import PERCENTS, QUICK, TASKS
from inactive_heads.names import OURS, PAPER_SCORES, RANDOM


def test_it_is_text_loss_by_four_scores_at_three_shares():
    scores = listed(QUICK["score"])
    check_score_names(scores)
    assert QUICK["task"] == "text-loss"
    assert len(scores) == 4
    assert RANDOM in scores
    assert {*scores} & {*OURS}
    assert {*scores} & {*PAPER_SCORES}
    assert check_percents(numbers(QUICK["percents"], "--percents")) == [10, 20, 30]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--quick"], QUICK),
        (["--quick", "--percents", "5"], QUICK | {"percents": "5"}),
        (["--quick", "--score", "AEQD"], QUICK | {"score": "AEQD"}),
        (
            ["--quick", "--percents", PERCENTS, "--task", TASKS],
            QUICK | {"percents": PERCENTS, "task": TASKS},
        ),
        ([], {"task": TASKS, "score": None, "percents": PERCENTS}),
    ],
)
def test_what_is_given_wins(monkeypatch, tmp_path, options, expected):
    asked = []
    monkeypatch.setattr(
        "inactive_heads.report.build.build_reports",
        lambda many, *_, **__: asked.append(many[0]) or 1 / 0,
    )
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path / "out"), *options])
    assert isinstance(done.exception, ZeroDivisionError), done.output
    (one,) = asked
    assert [task.name for task in one.tasks] == listed(expected["task"])
    assert one.scores == listed(expected["score"])
    assert one.percents == numbers(expected["percents"], "--percents")
