"""Session of a search: one commit compared with another, and the call on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.stored_json import Flag, Number, Stored, expect

REGRESSED = "regressed"
#: Verdicts on a metric that is not slower than at the base, within the tolerance.
NOT_SLOWER = ("pass", "improved")
#: Verdicts that rest on measured numbers; the other verdicts mean that there are none.
MEASURED = (REGRESSED, *NOT_SLOWER, "inconclusive")
#: Strategies that compare two sides, and strategies that check an absolute limit.
_COMPARING = ("interleaved", "stalls")
_LIMITING = ("target", "stall limit")
_KINDS = frozenset(kind.value for kind in VerdictKind)


def _within(low: float, high: float) -> Any:
    """Return a check that a stored number is in a plausible range."""
    return expect(f"a number from {low:g} to {high:g}", lambda number: low <= number <= high)


_Slowdown = Annotated[Number, _within(-1.0, 1e100)]


class CheckKey(NamedTuple):
    """Identifies a check: a metric of a test."""

    test: str
    metric: str


@dataclass(frozen=True)
class BisectFinding(Stored):
    """The verdict on one metric of one test; slowdowns are fractions, positive is slower.

    Attributes:
        test: the node id.
        metric: name of the metric.
        verdict: verdict of comparing the two commits, independent of any target.
        text: reason for the verdict, in one line.
        effect: the slowdown; None if it was not measured.
        low, high: 95% interval of the slowdown, or None.
        bound: 95% upper bound on the slowdown, or None.
    """

    test: str
    metric: str
    verdict: Annotated[str, expect("a verdict", _KINDS.__contains__)]
    text: str = ""
    effect: _Slowdown | None = None
    low: _Slowdown | None = None
    high: _Slowdown | None = None
    bound: _Slowdown | None = None

    @property
    def check(self) -> CheckKey:
        """The check that this finding is about."""
        return CheckKey(self.test, self.metric)


@dataclass(frozen=True)
class BisectSession(Stored):
    """One session: ``commit`` measured interleaved with ``against``.

    Attributes:
        commit, against: full hashes.
        findings: one for every judged metric; empty if there is a ``problem``.
        problem: why the commit could not be measured; empty if it was.
        seconds: how long the session took, everything included.
        machine: key of the machine; empty if unknown.
        host: label of the machine, known before anything runs; empty if unknown.
        fresh: whether evidence of other sessions was excluded, to verify the first bad commit.
        log: file with the session's output.
        report: file with the session's JSON report; empty if there is none.
    """

    commit: str
    against: str
    findings: tuple[BisectFinding, ...] = ()
    problem: str = ""
    seconds: Annotated[Number, _within(0.0, 1e9)] = 0.0
    machine: str = ""
    fresh: Flag = False
    log: str = ""
    report: str = ""
    host: str = ""
    same_as: str = ""

    @property
    def is_base(self) -> bool:
        """Whether the commit has the same files as ``against``, so that nothing was measured."""
        return self.same_as == self.against

    @property
    def regressed(self) -> tuple[BisectFinding, ...]:
        """The findings that are slower than at the base."""
        return tuple(finding for finding in self.findings if finding.verdict == REGRESSED)

    def is_measured(self, checks: Collection[CheckKey] | None = None) -> bool:
        """Whether any of these checks (None: of all checks) has a verdict on measured numbers."""
        return any(
            finding.verdict in MEASURED
            for finding in self.findings
            if checks is None or finding.check in checks
        )

    def find(self, check: CheckKey) -> BisectFinding | None:
        """Return the finding on a check; None if there is none."""
        return next((finding for finding in self.findings if finding.check == check), None)


@dataclass(frozen=True)
class _Proof(Stored):
    """The numbers behind a verdict."""

    effect: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class _Reason(Stored):
    """The verdict of one strategy."""

    verdict: str
    strategy: str
    text: str


@dataclass(frozen=True)
class _Metric(Stored):
    """A metric in a report, as far as a search needs it."""

    name: str
    gated: bool
    verdict: str | None
    explanation: str | None
    strategy: str | None
    change: float | None
    proof: _Proof | None
    reasons: tuple[_Reason, ...]

    def finding(self, nodeid: str) -> BisectFinding:
        """Return the verdict of the comparison, even if a target decided the metric's verdict."""
        verdict, text, proof = self.verdict or "", self.explanation or "", self.proof or _Proof()
        if self.strategy in _LIMITING:
            proof = _Proof()
            for reason in self.reasons:
                if reason.strategy in _COMPARING:
                    verdict, text = reason.verdict, reason.text
        effect = proof.effect if proof.effect is not None else self.change
        return BisectFinding(
            nodeid, self.name, verdict, text, effect, proof.low, proof.high, proof.bound
        )


@dataclass(frozen=True)
class _Test(Stored):
    nodeid: str
    metrics: tuple[_Metric, ...]


@dataclass(frozen=True)
class _Machine(Stored):
    machine: str


@dataclass(frozen=True)
class BisectReport(Stored):
    """The part of a session's JSON report (``--llmperf-json``) that a search needs."""

    session: _Machine
    tests: tuple[_Test, ...]

    @property
    def findings(self) -> tuple[BisectFinding, ...]:
        """The verdicts on the gated metrics."""
        return tuple(
            metric.finding(test.nodeid)
            for test in self.tests
            for metric in test.metrics
            if metric.gated and metric.verdict is not None
        )


#: A call on a commit, in the terms of ``git bisect``.
Call = Literal["bad", "good", "skip"]

_SHOWN = 2


@dataclass(frozen=True)
class Judgement:
    """The call on a commit and its reason.

    Attributes:
        call: ``bad`` if any metric that counts regressed, ``good`` if all of them are
            fine, otherwise ``skip``.
        reason: why a commit is skipped, in one line; otherwise empty.
    """

    call: Call
    reason: str = ""


def judge(session: BisectSession, checks: Sequence[CheckKey]) -> Judgement:
    """Judge a commit by the checks that count: those that regressed at the bad end."""
    if session.is_base:
        return Judgement("good")
    if session.problem:
        return Judgement("skip", session.problem.splitlines()[0])
    unclear = []
    bad = False
    for check in checks:
        finding = session.find(check)
        if finding is None:
            unclear.append(f"{check.test} [{check.metric}] was not measured")
        elif finding.verdict == REGRESSED:
            bad = True
        elif finding.verdict not in NOT_SLOWER:
            unclear.append(f"{check.test} [{check.metric}] {finding.verdict}: {finding.text}")
    if bad:
        return Judgement("bad")
    if unclear:
        more = f"; and {len(unclear) - _SHOWN} more" if len(unclear) > _SHOWN else ""
        return Judgement("skip", "; ".join(unclear[:_SHOWN]).replace("\n", " ") + more)
    return Judgement("good")
