"""The text of a failing perf test: what failed, by how much, against what, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import FailPolicy, VerdictKind, fails, verdict_fails
from pytest_llmperf.gate.words import change_words, count
from pytest_llmperf.report.cells import summary_text
from pytest_llmperf.report.text import printable, shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.report.model import MetricRow, TestReportView

#: Kinds after which recording a new baseline is an answer.
_RECORDABLE = frozenset({VerdictKind.WORKLOAD_CHANGED, VerdictKind.NO_BASELINE})
_INDENT = "    "


def accept_command(nodeid: str, command: str = "pytest -m perf") -> str:
    """The command that makes this test's level the new one, quoted for a POSIX shell."""
    return f'{rerun_command(nodeid, command)} --llmperf-accept "why"'


def record_command(nodeid: str, command: str = "pytest -m perf") -> str:
    """The command that records this test's level as a baseline, quoted for a POSIX shell."""
    return f"{rerun_command(nodeid, command)} --llmperf-record"


def rerun_command(nodeid: str, command: str = "pytest -m perf") -> str:
    """The command that measures this test again, quoted for a POSIX shell."""
    return f"{command} {shell_word(nodeid)}"


def failure_text(
    test: TestReportView,
    *,
    busy: Sequence[str] = (),
    policy: FailPolicy | None = None,
    command: str = "pytest -m perf",
    argument: str | None = None,
) -> str:
    """Write what a failing test's report says; empty where no verdict fails under ``policy``.

    ``busy``: what else used the machine, said before any speed. ``command``: how
    this session's user runs perf tests, the stem of the commands to copy.
    ``argument``: what names the test there; its node id by default.
    """
    failing = [row for row in test.rows if row.verdict and verdict_fails(row.verdict, policy)]
    if not failing:
        return ""
    lines: list[str] = []
    if busy:
        lines += ["the machine was busy while measuring:", *_bullets(busy), ""]
    for row in failing:
        lines += [*_failure(row), ""]
    rest = [row for row in test.rows if row not in failing and row.summary is not None]
    if rest and any(row.summary is not None for row in failing):
        lines += ["the other metrics:", *(_INDENT + _brief(row) for row in rest), ""]
    if test.differences:
        lines += ["what differs from the baseline besides speed:", *_bullets(test.differences), ""]
    if test.findings:
        lines += ["found while measuring:", *_bullets(test.findings), ""]
    kinds = {kind for row in failing for kind in _kinds(row) if fails(kind, policy)}
    lines += _remedies(kinds, test.nodeid if argument is None else argument, command)
    return "\n".join(lines)


def _failure(row: MetricRow) -> Iterator[str]:
    """One failing metric: its verdict, why, and what it rests on."""
    verdict = row.verdict
    assert verdict is not None
    explanation = [printable(line) for line in verdict.explanation.splitlines()] or [""]
    yield f"{verdict.kind.value}: {row.label}: {explanation[0]}"
    yield from (_INDENT + line for line in (*explanation[1:], *map(printable, verdict.notes)))
    if row.summary is not None:
        measured = summary_text(row.summary, row.check.metric)
        processes = count(row.summary.processes, "process")
        iterations = count(row.summary.iterations, "iteration")
        yield f"{_INDENT}measured {measured} in {processes}, {iterations}"
    if row.baseline is not None:
        baseline = summary_text(row.baseline, row.check.metric)
        yield f"{_INDENT}baseline {baseline} in {count(row.baseline_sessions, 'session')}:"
        yield from (f"{_INDENT}  {printable(source)}" for source in row.baseline_sources)


def _brief(row: MetricRow) -> str:
    """A metric that did not fail, in one line, so that a loss can be located."""
    assert row.summary is not None
    text = f"{row.label} {summary_text(row.summary, row.check.metric)}"
    if row.change is not None:
        text += f", {change_words(row.check.metric, row.change)}"
    return f"{text} ({row.verdict.kind.value if row.verdict else 'not gated'})"


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"{_INDENT}- {printable(line)}" for line in lines]


def _kinds(row: MetricRow) -> Iterator[VerdictKind]:
    """The failing metric's own kind and those of the reasons kept beside it."""
    verdict: Verdict | None = row.verdict
    if verdict is not None:
        yield verdict.kind
        yield from (reason.kind for reason in verdict.reasons)


def _remedies(kinds: set[VerdictKind], nodeid: str, command: str) -> Iterator[str]:
    """What to do about each kind that failed, with commands to copy."""
    rerun = _INDENT + rerun_command(nodeid, command)
    if VerdictKind.ERROR in kinds:
        yield from ("when the error is mended, run it again:", rerun)
    if VerdictKind.INVALID in kinds:
        yield from ("nothing was proven about speed; on a quiet machine run it again:", rerun)
    if VerdictKind.INCONCLUSIVE in kinds:
        yield from ("to tell, give it more time (perf.budget) and run it again:", rerun)
    if VerdictKind.REGRESSED in kinds:
        yield from ("to accept the new level:", _INDENT + accept_command(nodeid, command))
    elif kinds & _RECORDABLE:
        yield from ("to record this level:", _INDENT + record_command(nodeid, command))
    if VerdictKind.MISSED in kinds:
        yield (
            "recording does not move a target: "
            "it stands in the test's marker or under perf.targets in config.yaml"
        )
