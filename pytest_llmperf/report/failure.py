"""The failure text of a perf test: what failed, by how much, against what, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import FailPolicy, VerdictKind, failing_kinds, verdict_fails
from pytest_llmperf.gate.words import change_words, count, listed, plural
from pytest_llmperf.measure.instrumented import INSTRUMENT_CHECKS
from pytest_llmperf.report.cells import summary_text
from pytest_llmperf.report.disturbances import brief_claim, disturbed_words
from pytest_llmperf.text import printable, shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.session.result import CheckResult, DiagnosedCause, TestResult

#: Kinds of verdict that recording a baseline can resolve.
_RECORDABLE = frozenset({VerdictKind.WORKLOAD_CHANGED, VerdictKind.NO_BASELINE})
_INDENT = "    "
#: Kinds of verdict that concern a whole test rather than one of its metrics.
_OF_ALL = frozenset({VerdictKind.ERROR, VerdictKind.INVALID})
#: The session's table comes at the end of pytest's output.
_LISTED = "the table below shows the cause"
#: Causes shown under one failure; ``llmperf doctor`` shows all.
_CAUSES = 3


def accept_command(nodeid: str, command: str = "pytest -m perf") -> str:
    """Return the command that makes this test's level the new one, quoted for a POSIX shell."""
    return f'{rerun_command(nodeid, command)} --llmperf-accept "why"'


def record_command(nodeid: str, command: str = "pytest -m perf") -> str:
    """Return the command that records this test's level as a baseline, quoted for a POSIX shell."""
    return f"{rerun_command(nodeid, command)} --llmperf-record"


def rerun_command(nodeid: str, command: str = "pytest -m perf") -> str:
    """Return the command that measures this test again, quoted for a POSIX shell."""
    return f"{command} {shell_word(nodeid)}"


def failure_text(
    test: TestResult,
    *,
    disturbed: Sequence[str] = (),
    policy: FailPolicy | None = None,
    command: str = "pytest -m perf",
    repeat_command: str | None = None,
    test_argument: str | None = None,
    against: str | None = None,
) -> str:
    """Write the report of a failing test; empty where no verdict fails under ``policy``.

    ``disturbed``: machine checks whose findings the session's table lists; the failure names them
    first. ``command``: how the user runs perf tests, the start of the commands to copy.
    ``repeat_command``: the start of commands that repeat the comparison; ``command`` by default.
    ``test_argument``: the test's name in those commands; its node id by default.
    ``against``: name of the session's base side, even if this test was not compared with it.
    """
    failing = [row for row in test.all_rows if row.verdict and verdict_fails(row.verdict, policy)]
    if not failing:
        return ""
    lines: list[str] = []
    # An invalid verdict names the checks itself.
    if disturbed and not all(_is_invalid(row) for row in failing):
        lines += [f"{disturbed_words(disturbed)}: {_LISTED}", ""]
    for rows in _failure_groups(failing):
        lines += [*_failure(rows, disturbed), ""]
    # Causes found by the diagnosis, too, are listed there, with the change to make.
    diagnosed = {cause.evidence for cause in _certain_causes(test)[:_CAUSES]}
    if causes := [text for text in test.causes if text not in diagnosed]:
        lines += ["likely caused by the configuration or the build:", *_bullets(causes), ""]
    rest = [row for row in test.all_rows if row not in failing and row.summary is not None]
    if rest and any(row.summary is not None for row in failing):
        lines += ["the other metrics:", *(_INDENT + _brief(row) for row in rest), ""]
    base = test.against or against or "the baseline"
    differences = [text for text in test.differences if text not in test.causes]
    if differences:
        lines += [f"what differs from {base} besides speed:", *_bullets(differences), ""]
    sources = dict.fromkeys(source for row in failing for source in row.baseline_sources)
    if sources and any(row.baseline is not None for row in failing):
        lines += ["the baseline's sessions:", *_bullets(sources), ""]
    if test.findings:
        lines += ["found while measuring:", *_bullets(test.findings), ""]
    if test.diagnosis:
        lines += [*_diagnosis(test), ""]
    name = test.nodeid if test_argument is None else test_argument
    lines += _remedies(failing, test, policy, name, command, repeat_command or command)
    return "\n".join(lines)


def _is_invalid(row: CheckResult) -> bool:
    return row.verdict is not None and row.verdict.kind is VerdictKind.INVALID


def _failure_groups(failing: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """Group metrics that fail for one reason: an error, whose log is long, or the machine."""
    groups: dict[object, list[CheckResult]] = {}
    for row in failing:
        verdict = row.verdict
        alone = verdict is None or verdict.kind not in _OF_ALL or row.summary is not None
        key = row.label if verdict is None or alone else (verdict.explanation, verdict.notes)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _failure(rows: Sequence[CheckResult], disturbed: Sequence[str]) -> Iterator[str]:
    """Describe metrics that fail for one reason: the verdict, why, and the evidence."""
    row = rows[0]
    verdict = row.verdict
    assert verdict is not None
    text = brief_claim(verdict.kind, verdict.explanation, disturbed)
    if text != verdict.explanation:
        text += f": {_LISTED}"
    explanation = [printable(line) for line in text.splitlines()] or [""]
    metric = row.check.metric
    yield f"{verdict.kind.value}: {listed([failed.label for failed in rows])}: {explanation[0]}"
    yield from (_INDENT + line for line in (*explanation[1:], *map(printable, verdict.notes)))
    if row.summary is not None:
        unit = row.evidence.unit
        done = count(row.summary.processes, unit)
        done += f", {count(row.summary.iterations, 'iteration')}"
        if metric.kind == "percentile":
            done = count(row.summary.processes, f"group of {plural(unit)}")
        if row.measured is not None:
            done = count(row.summary.iterations, "position")
        yield f"{_INDENT}measured {summary_text(row.summary, metric)} in {done}"
    if row.baseline is not None:
        baseline = summary_text(row.baseline, metric)
        if row.against is not None:
            yield f"{_INDENT}base {baseline} in {printable(row.against)}"
        else:
            yield f"{_INDENT}baseline {baseline} in {count(row.baseline_sessions, 'session')}"


def _brief(row: CheckResult) -> str:
    """Describe a metric that did not fail, in one line; it helps to locate a slowdown."""
    assert row.summary is not None
    text = f"{row.label} {summary_text(row.summary, row.check.metric)}"
    if row.change is not None:
        text += f", {change_words(row.check.metric, row.change)}"
    return f"{text} ({row.verdict.kind.value if row.verdict else 'not gated'})"


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"{_INDENT}- {printable(line)}" for line in lines]


def _certain_causes(test: TestResult) -> list[DiagnosedCause]:
    return [cause for cause in test.diagnosis if cause.certain]


def _diagnosis(test: TestResult) -> Iterator[str]:
    """List likely causes of a slow test, then changes worth trying, in a few lines each."""
    certain = _certain_causes(test)
    if certain:
        yield "why it may be slow:"
    for cause in certain[:_CAUSES]:
        yield f"{_INDENT}- {printable(cause.title)}: {printable(cause.evidence)}"
        yield f"{_INDENT}  change: {printable(cause.change)}"
    if len(certain) > _CAUSES:
        yield f"{_INDENT}- and {count(len(certain) - _CAUSES, 'more cause')}"
    if to_try := [printable(cause.change) for cause in test.diagnosis if not cause.certain]:
        yield f"worth trying: {'; '.join(to_try)}"
    if test.doctor_command:
        yield from ("to measure each change:", _INDENT + printable(test.doctor_command))


def _remedies(
    failing: Sequence[CheckResult],
    test: TestResult,
    policy: FailPolicy | None,
    nodeid: str,
    command: str,
    repeat_command: str,
) -> Iterator[str]:
    """Give advice on each kind of failing verdict, with commands to copy."""
    verdicts = [row.verdict for row in failing if row.verdict is not None]
    kinds = {kind for verdict in verdicts for kind in failing_kinds(verdict, policy)}
    rerun = _INDENT + rerun_command(nodeid, repeat_command)
    if VerdictKind.ERROR in kinds:
        yield from ("once the error is fixed, run it again:", rerun)
    if VerdictKind.INVALID in kinds:
        yield from (f"nothing was proven about speed; {_how_to_be_valid(test)}:", rerun)
    if VerdictKind.INCONCLUSIVE in kinds:
        undecided = [v for v in verdicts if v.kind is VerdictKind.INCONCLUSIVE]
        yield from _how_to_decide(undecided, nodeid, command, repeat_command)
    if VerdictKind.REGRESSED in kinds and test.against is not None:
        yield from _against(test, nodeid)
        if test.is_confirmed:
            yield from ("to accept the new level:", _INDENT + accept_command(nodeid, command))
    elif VerdictKind.REGRESSED in kinds:
        yield from ("to accept the new level:", _INDENT + accept_command(nodeid, command))
    elif kinds & _RECORDABLE:
        yield from ("to record this level:", _INDENT + record_command(nodeid, command))
    if VerdictKind.MISSED in kinds:
        yield (
            "recording does not change a target; "
            "it is set in the test's marker or under perf.targets in config.yaml"
        )


def _how_to_be_valid(test: TestResult) -> str:
    """Advise how to get a valid run."""
    slowed = {entry.name for entry in test.fitness if entry.severity == "invalid"}
    if slowed & INSTRUMENT_CHECKS.keys():
        return (
            "run it again without the tool or debug mode that was active in the engine's process "
            "(docs/fitness.md)"
        )
    return "run it again on a quiet machine"


def _against(test: TestResult, nodeid: str) -> Iterator[str]:
    """Give advice on a regression against a base side."""
    base = printable(test.against or "")
    if test.culprit:
        yield printable(test.culprit)
        if test.bisect_from is not None:
            words = (test.bisect_from, "HEAD", nodeid)
            yield f"{_INDENT}llmperf bisect {' '.join(map(shell_word, words))}"
    elif test.differences:
        yield f"these settings made it slower: if they are not worth it, keep {base}"
    else:
        yield (
            f"both sides have the same settings: look for another difference from {base}, such as "
            "a path's contents or the environment; or it is one of the rare false alarms"
        )


def _how_to_decide(
    verdicts: Sequence[Verdict], nodeid: str, command: str, repeat_command: str
) -> Iterator[str]:
    """Give advice on how to decide inconclusive verdicts."""
    if any(verdict.strategy == "baseline" for verdict in verdicts):
        yield "stored sessions alone don't decide it: record more of them, or, where a"
        yield "configuration changed, run the old and the new one in one session:"
        yield f"{_INDENT}{rerun_command(nodeid, command)} --llmperf-against-config OTHER.yaml"
    if any(verdict.strategy == "quality" for verdict in verdicts):
        yield "another run gives the same quality; to decide it, score more text, as said above"
    others = [v for v in verdicts if v.strategy not in ("baseline", "quality")]
    if not others:
        return
    settings = sorted({verdict.stopped_by for verdict in others if verdict.stopped_by})
    needed = [
        (verdict.proof.samples + verdict.proof.more) * verdict.proof.row_size
        for verdict in others
        if verdict.proof is not None and verdict.proof.more is not None
    ]
    rerun = rerun_command(nodeid, repeat_command)
    if len(settings) == 1 and settings[0].startswith("perf.max_") and needed:
        # The needed number is an estimate from few samples, so add half.
        rerun += f" --llmperf-set {settings[0]}={round(max(needed) * 1.5)}"
    raised = f"raise {listed(settings)} and " if settings else ""
    yield f"to decide it, {raised}run it again:"
    yield _INDENT + rerun
