"""One session of a search: a commit compared with another, and the call about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.stored_json import Flag, Number, Stored, expect

REGRESSED = "regressed"
#: Verdicts on a metric that is as fast as at the base, within the tolerance.
FINE = ("pass", "improved")
#: Verdicts that rest on measured numbers; the others say that there are none.
LOOKED = (REGRESSED, *FINE, "inconclusive")
#: Strategies that compare two sides; any other looks at an absolute limit.
_COMPARING = ("interleaved", "stalls")
_LIMITING = ("target", "stall limit")
_KINDS = frozenset(kind.value for kind in VerdictKind)


def _within(low: float, high: float) -> Any:
    """Expect a number that can have been measured."""
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
        metric: its name.
        verdict: of the comparison of the two commits, whatever a target says.
        text: why, in one line.
        effect: the slowdown, or None where it was not measured.
        low, high: its interval at 95%, or None.
        bound: the slowdown is at most this, at 95%, or None.
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
        """The check that it is about."""
        return CheckKey(self.test, self.metric)


@dataclass(frozen=True)
class BisectSession(Stored):
    """One session: ``commit`` measured interleaved with ``against``.

    Attributes:
        commit, against: full hashes.
        findings: of every metric that was judged; empty where ``problem`` says why.
        problem: why the commit could not be measured; empty where it was.
        seconds: how long it took, everything included.
        machine: the key of the machine; empty if unknown.
        host: what is known of the machine before anything runs; empty if unknown.
        fresh: no evidence of other sessions counted; made to verify the answer.
        log: the file with the session's output.
        report: the file with the session's JSON report; empty if there is none.
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
        """Whether it has the files of the commit it would be compared with."""
        return self.same_as == self.against

    @property
    def regressed(self) -> tuple[BisectFinding, ...]:
        """The metrics that are slower than at the base."""
        return tuple(each for each in self.findings if each.verdict == REGRESSED)

    def looked(self, checks: Collection[CheckKey] | None = None) -> bool:
        """Whether the numbers of any of these metrics (None: of all) were looked at."""
        return any(
            each.verdict in LOOKED
            for each in self.findings
            if checks is None or each.check in checks
        )

    def find(self, check: CheckKey) -> BisectFinding | None:
        """Return the finding on a check, None if there is none."""
        return next((each for each in self.findings if each.check == check), None)


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
        """Return the comparison's verdict: a missed or undecided target is another question."""
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
        """The verdicts on its gated metrics."""
        return tuple(
            metric.finding(test.nodeid)
            for test in self.tests
            for metric in test.metrics
            if metric.gated and metric.verdict is not None
        )


#: In the words of ``git bisect``.
Call = Literal["bad", "good", "skip"]

_SHOWN = 2


@dataclass(frozen=True)
class Judgement:
    """A call and its reason.

    Attributes:
        call: ``bad`` if any metric that counts regressed, ``good`` if all of them are
            fine, else ``skip``.
        reason: of a ``skip``, in one line; else empty.
    """

    call: Call
    reason: str = ""


def judge(session: BisectSession, checks: Sequence[CheckKey]) -> Judgement:
    """Judge a commit by the metrics that count: those that regressed at the bad end."""
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
        elif finding.verdict not in FINE:
            unclear.append(f"{check.test} [{check.metric}] {finding.verdict}: {finding.text}")
    if bad:
        return Judgement("bad")
    if unclear:
        more = f"; and {len(unclear) - _SHOWN} more" if len(unclear) > _SHOWN else ""
        return Judgement("skip", "; ".join(unclear[:_SHOWN]).replace("\n", " ") + more)
    return Judgement("good")
