"""Checks a score function against the contract, on tiny models, within seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from inactive_heads.core.settings import default_settings
from inactive_heads.scores.check.clauses import CLAUSES, Clause, Outcome
from inactive_heads.scores.check.trial import Failed, Trial, one_thread_without_warnings
from inactive_heads.scores.registry import ScoreLike, get_score

_WORDS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "not decided": "not decided"}


@dataclass(frozen=True)
class Finding:
    """The result for one clause of the contract.

    Attributes:
        clause: the clause's name.
        outcome: "passed", "failed" or "not decided".
        message: the reason, in words.
    """

    clause: str
    outcome: Outcome
    message: str


@dataclass(frozen=True, repr=False)
class ScoreCheck:
    """The result of `check_score`; printing it lists the clauses.

    Attributes:
        score: the score's name.
        findings: one per clause, in the order in which they were checked.
    """

    score: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings whose outcome is "failed"."""
        return tuple(one for one in self.findings if one.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether no clause failed; clauses may be "not decided"."""
        return not self.failed

    def __repr__(self) -> str:
        names = ", ".join(one.clause for one in self.failed)
        lines = [f"{self.score}: " + (f"failed in {names}" if names else "passed")]
        for one in self.findings:
            lines.append(f"  {one.clause:<23} {_WORDS[one.outcome]:<11}  {one.message}")
        return "\n".join(lines)


@default_settings()
def check_score(score: ScoreLike) -> ScoreCheck:
    """Checks a score function against the contract of score functions, clause by clause.

        check = ih.check_score(my_score)
        print(check)  # one line per clause
        assert check.passed

    The score runs on tiny models with random weights, made on the spot. Nothing is loaded, and
    the global random generators are unchanged. The clauses are shape, finite, one token,
    repeatable, grouped-query attention, padding, batch composition, BOS, dtype, direction, input
    unchanged, model unchanged and engines; docs/own_score.md explains each. A clause that cannot
    be checked is "not decided", with the reason.

    Args:
        score: a name, a function of `HeadActivations`, or an object callable like one.

    Returns:
        One finding per clause. Errors that the score raises are findings too.

    Raises:
        UserError: the name is unknown, a class is given instead of an instance, or its attribute
            ``inactive`` is neither "below" nor "above".
    """
    trial, failed, findings = Trial(get_score(score)), set[str](), list[Finding]()
    with one_thread_without_warnings():
        for clause in CLAUSES:
            findings.append(_judge(clause, trial, failed))
            if findings[-1].outcome == "failed":
                failed.add(clause.name)
    return ScoreCheck(trial.score.name, tuple(findings))


def _judge(clause: Clause, trial: Trial, failed: Collection[str]) -> Finding:
    lacking = [name for name in clause.needs if name in failed]
    if lacking:
        words = f"only a score that passes {' and '.join(lacking)} can be judged"
        return Finding(clause.name, "not decided", words)
    try:
        return Finding(clause.name, *clause.judge(trial))
    except Failed as failure:
        return Finding(clause.name, "failed", str(failure))
