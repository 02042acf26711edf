"""Whether a score of one's own keeps the contract: on tiny models, within seconds, in words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from inactive_heads.scores.check.clauses import CLAUSES, Clause, Outcome
from inactive_heads.scores.check.trial import Failed, Trial, small_and_quiet
from inactive_heads.scores.registry import ScoreLike, get_score

_WORDS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "not decided": "not decided"}


@dataclass(frozen=True)
class Finding:
    """What came of one clause of the contract, and in words why."""

    clause: str
    outcome: Outcome
    message: str


@dataclass(frozen=True, repr=False)
class ScoreCheck:
    """What `check_score` found; printed, it is a list of the clauses.

    Attributes:
        score: the score's name.
        findings: one per clause, in the order in which they were judged.
    """

    score: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings of the clauses that failed."""
        return tuple(one for one in self.findings if one.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether no clause failed."""
        return not self.failed

    def __repr__(self) -> str:
        names = ", ".join(one.clause for one in self.failed)
        lines = [f"{self.score}: " + (f"failed in {names}" if names else "passed")]
        for one in self.findings:
            lines.append(f"  {one.clause:<23} {_WORDS[one.outcome]:<11}  {one.message}")
        return "\n".join(lines)


def check_score(score: ScoreLike) -> ScoreCheck:
    """Whether a score keeps the contract that everything here relies on, clause by clause.

        check = ih.check_score(my_score)
        print(check)  # in words
        assert check.passed

    The score is run on tiny models with random weights, made on the spot: nothing is loaded, and
    the global random generators stay as they are. The clauses are shape, finite, one token,
    repeatable, grouped-query attention, padding, batch composition, BOS, dtype, direction, input
    unchanged, model unchanged and engines; docs/own_score.md says what each asks. A clause that
    cannot be judged is "not decided", and says why.

    Args:
        score: a name, a function of `HeadActivations`, or an object that is called like one.

    Raises:
        UserError: an unknown name, or a class instead of an object of it.
    """
    trial, failed, findings = Trial(get_score(score)), set[str](), list[Finding]()
    with small_and_quiet():
        for clause in CLAUSES:
            findings.append(_judged(clause, trial, failed))
            if findings[-1].outcome == "failed":
                failed.add(clause.name)
    return ScoreCheck(trial.score.name, tuple(findings))


def _judged(clause: Clause, trial: Trial, failed: Collection[str]) -> Finding:
    lacking = [name for name in clause.needs if name in failed]
    if lacking:
        words = f"only a score that passes {' and '.join(lacking)} can be judged"
        return Finding(clause.name, "not decided", words)
    try:
        return Finding(clause.name, *clause.judge(trial))
    except Failed as failure:
        return Finding(clause.name, "failed", str(failure))
