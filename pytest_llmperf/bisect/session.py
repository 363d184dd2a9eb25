"""What one session said about one commit compared with another, read from its JSON report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pytest_llmperf.baselines.reader import Reader
from pytest_llmperf.gate.verdict import VerdictKind

REGRESSED = "regressed"
#: Said of a metric that is as fast as there, within the tolerance.
FINE = ("pass", "improved")
#: Said after a look at the numbers; all else says that there are none to look at.
LOOKED = (REGRESSED, *FINE, "inconclusive")
#: Strategies that compare two arms; any other looks at an absolute limit.
_COMPARING = ("interleaved", "stalls")
_LIMITING = ("target", "stall limit")
_KINDS = frozenset(kind.value for kind in VerdictKind)
#: Of a session in seconds, and of a slowdown: more is no measurement.
_LONGEST, _LARGEST = 1e9, 1e100


class Pair(NamedTuple):
    """A metric of a test."""

    test: str
    metric: str


@dataclass(frozen=True)
class Finding:
    """What was said of one metric of one test; slowdowns are fractions, positive is slower.

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
    verdict: str
    text: str = ""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None

    @property
    def pair(self) -> Pair:
        """The metric and its test."""
        return Pair(self.test, self.metric)


@dataclass(frozen=True)
class Session:
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
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    seconds: float = 0.0
    machine: str = ""
    fresh: bool = False
    log: str = ""
    report: str = ""
    host: str = ""
    same_as: str = ""

    @property
    def is_base(self) -> bool:
        """Whether it has the files of the commit it would be compared with."""
        return self.same_as == self.against

    @property
    def regressed(self) -> tuple[Finding, ...]:
        """What is slower than there."""
        return tuple(each for each in self.findings if each.verdict == REGRESSED)

    def looked(self, pairs: Collection[Pair] | None = None) -> bool:
        """Whether the numbers of any of these metrics (None: of all) were looked at."""
        return any(
            each.verdict in LOOKED for each in self.findings if pairs is None or each.pair in pairs
        )

    def find(self, pair: Pair) -> Finding | None:
        """Return what was said of this metric of this test."""
        return next((each for each in self.findings if each.pair == pair), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "findings": [asdict(each) for each in self.findings]}

    @classmethod
    def from_json(cls, data: Any) -> Session:
        """Return what ``to_json`` was made of.

        Raises:
            ShapeError: which item is wrong, what was expected and what it is.
        """
        root = Reader(data)
        return cls(
            commit=root["commit"].text(),
            against=root["against"].text(),
            findings=tuple(map(_read_finding, root["findings"].elements())),
            problem=root["problem"].text(),
            seconds=_within(root["seconds"], 0.0, _LONGEST),
            machine=root["machine"].text(),
            fresh=root["fresh"].boolean(),
            log=root["log"].text(),
            report=root["report"].text(),
            host=root["host"].text(),
        )


def _read_finding(item: Reader) -> Finding:
    if item["verdict"].text() not in _KINDS:
        raise item["verdict"].wrong("a verdict")
    effect, low, high, bound = (
        None if item[name].is_null() else _within(item[name], -1.0, _LARGEST)
        for name in ("effect", "low", "high", "bound")
    )
    return Finding(
        item["test"].text(),
        item["metric"].text(),
        item["verdict"].text(),
        item["text"].text(),
        effect,
        low,
        high,
        bound,
    )


def _within(item: Reader, low: float, high: float) -> float:
    number = item.number()
    if not low <= number <= high:
        raise item.wrong(f"a number from {low:g} to {high:g}")
    return number


def findings_of(report: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return what a JSON report (``--llmperf-json``) says of its gated metrics.

    Raises:
        KeyError, TypeError: it is no such report.
    """
    return tuple(_findings(report["tests"]))


def _findings(tests: Iterable[Mapping[str, Any]]) -> Iterable[Finding]:
    for test in tests:
        for metric in test["metrics"]:
            if metric["gated"] and metric["verdict"] is not None:
                yield _finding(test["nodeid"], metric)


def _finding(nodeid: str, metric: Mapping[str, Any]) -> Finding:
    """Return what the comparison said: a target missed, or undecided, is another question."""
    verdict, text = metric["verdict"], metric["explanation"] or ""
    proof = metric["proof"] or {}
    if metric["strategy"] in _LIMITING:
        proof = {}
        for reason in metric["reasons"]:
            if reason["strategy"] in _COMPARING:
                verdict, text = reason["verdict"], reason["text"]
    effect = proof.get("effect")
    return Finding(
        test=nodeid,
        metric=metric["name"],
        verdict=verdict,
        text=text,
        effect=effect if effect is not None else metric["change"],
        low=proof.get("low"),
        high=proof.get("high"),
        bound=proof.get("bound"),
    )
