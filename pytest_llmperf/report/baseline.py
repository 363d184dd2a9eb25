"""A baselines folder and a decision about one of its sessions, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.match import group_comparable
from pytest_llmperf.baselines.window import BaselineWindow, window_of
from pytest_llmperf.gate.words import change_words, count, percent
from pytest_llmperf.text import columns, display_width, pack, printable, wrap_node_id, wrap_words
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import Decision
    from pytest_llmperf.baselines.lookup import BaselineFolder
    from pytest_llmperf.baselines.overview import MetricOverview, TestOverview
    from pytest_llmperf.baselines.store import Shelf, StoredRecord
    from pytest_llmperf.baselines.window import SessionChoice


SCHEMA_VERSION = 1

_HEADER = ("metric", "level", "over", "spread", "drift", "found from", "passes to")


def baseline_lines(
    folder: BaselineFolder,
    shelves: Mapping[str, Shelf],
    overviews: Mapping[str, Sequence[TestOverview]],
    tests: Sequence[str] | None,
    width: int,
) -> Iterator[str]:
    """Write every machine that has a test to show, in lines of at most ``width`` columns.

    Args:
        folder: the baselines folder.
        shelves: machine key -> the machine's sessions and decisions.
        overviews: machine key -> overviews of the machine's tests.
        tests: node ids to show; None for all.
        width: columns of the terminal.
    """
    for number, (key, shelf) in enumerate(shelves.items()):
        if overviews[key]:
            if number:
                yield ""
            yield from _machine_lines(folder.store.root / key, shelf, overviews[key], tests, width)
    if any(overview.metrics for shown in overviews.values() for overview in shown):
        yield ""
        yield from wrap_words(_legend(folder), width)


def _machine_lines(
    folder: Path,
    shelf: Shelf,
    overviews: Sequence[TestOverview],
    tests: Sequence[str] | None,
    width: int,
) -> Iterator[str]:
    numbers = {stored.path.name: number for number, stored in enumerate(shelf.records, start=1)}
    yield from wrap_words(f"{folder}: {count(len(shelf.records), 'session')}", width)
    for stored in shelf.records:
        if tests is None or any(nodeid in stored.record.tests for nodeid in tests):
            yield from _session_lines(numbers[stored.path.name], stored, width)
    for overview in overviews:
        yield ""
        yield from _test_lines(overview, numbers, width)


def _session_lines(number: int, stored: StoredRecord, width: int) -> Iterator[str]:
    record, source = stored.record, stored.record.provenance
    yield from pack([f"  #{number}", printable(stored.path.name)], width, "    ")
    commit = f"commit {source.commit[:12]}" if source.commit else "no commit"
    dirty = " with uncommitted changes" if source.dirty else ""
    branch = f" on {source.branch}" if source.branch else ""
    facts = (
        f"{record.recorded.replace('T', ' ').replace('Z', ' UTC')}",
        f"{commit}{dirty}{branch}",
        f"plugin {source.plugin}",
        f"{source.engine} {source.engine_version} ({source.backend})",
        record.model.name,
    )
    yield from wrap_words(", ".join(facts), width, first="      ", indent="      ")


def _test_lines(overview: TestOverview, numbers: Mapping[str, int], width: int) -> Iterator[str]:
    sessions = overview.sessions
    yield from wrap_node_id(overview.nodeid, width)
    yield from wrap_words(
        f"{overview.model.name}: {overview.summary}", width, first="  ", indent="  "
    )
    facts = []
    if overview.window:
        facts.append(f"window, which judges: {_named(overview.window, numbers)}")
        chosen = sessions.chosen_anchor
        why = f"chosen {chosen.moment:%Y-%m-%d}: {chosen.reason}" if chosen else "the oldest"
        facts.append(f"anchor: {_named(overview.anchor, numbers)} ({why})")
    if sessions.acceptance:
        accepted = sessions.acceptance
        number = _named((accepted.session,), numbers)
        facts.append(f"accepted {accepted.moment:%Y-%m-%d}: {number} ({accepted.reason})")
    if sessions.history:
        facts.append(f"before the accepted level: {_named(sessions.history, numbers)}")
    if overview.other_work:
        facts.append(f"measured another workload: {_named(overview.other_work, numbers)}")
    for stored in sessions.invalid:
        reasons = "; ".join(stored.record.tests[overview.nodeid].invalid)
        facts.append(f"invalid: {_named((stored,), numbers)} ({reasons})")
    for fact in facts:
        yield from wrap_words(fact, width, first="  ", indent="    ")
    if overview.metrics:
        yield from _table([_HEADER, *map(_cells, overview.metrics)], width)


def _named(sessions: Iterable[StoredRecord], numbers: Mapping[str, int]) -> str:
    """Name sessions by their numbers: ``#1-#3, #5``."""
    runs: list[list[int]] = []
    for number in sorted(numbers[stored.path.name] for stored in sessions):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"#{r[0]}-#{r[-1]}" if len(r) > 1 else f"#{r[0]}" for r in runs)


def _cells(line: MetricOverview) -> tuple[str, ...]:
    metric = line.metric
    return (
        printable(metric.label if metric else line.name),
        format_quantity(line.level, metric.unit) if metric else f"{line.level:.3g} {line.unit}",
        str(line.sessions),
        "-" if line.spread is None else f"{line.spread:.1%}",
        "-" if line.drift is None else change_words(metric, line.drift),
        "-" if line.found_from is None else change_words(metric, line.found_from),
        "-" if line.passes_to is None else change_words(metric, line.passes_to),
    )


def _table(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Lay rows out under their header; on narrow terminals below their first cell."""
    lines = [f"  {line}" for line in columns(rows)]
    if max(map(display_width, lines)) <= width:
        return lines
    lines = []
    for row in rows[1:]:
        labelled = [f"{name} {text}" for name, text in zip(rows[0][1:], row[1:], strict=True)]
        lines += [f"  {row[0]}", *("    " + line for line in pack(labelled, width - 4, ""))]
    return lines


def _legend(folder: BaselineFolder) -> str:
    return (
        "level: median over the window's sessions; spread: standard deviation between them; "
        "drift: from the anchor to the window. What these sessions alone can decide "
        f"(tolerance {percent(folder.tolerance)}, false alarms {percent(folder.false_alarms)} for "
        "a session of one check, more checks need more): found from: the slowdown that is called "
        "regressed half of the time; passes to: the largest measured slowdown that passes "
        "(faster: an unchanged test does not pass by them)."
    )


def decision_lines(
    decision: Decision, session: StoredRecord, shelf: Shelf, covered: Iterable[str], width: int
) -> Iterator[str]:
    """Write a decision in lines of at most ``width`` columns.

    Args:
        decision: the decision.
        session: the session that it is about.
        shelf: the machine's sessions and decisions, including this one.
        covered: node ids of the tests that it applies to.
        width: columns of the terminal.
    """
    yield from wrap_words(_headline(decision, session), width)
    for nodeid in covered:
        yield from wrap_node_id(nodeid, width)
        for effect in _effects(decision, _window(shelf, session, nodeid)):
            yield from wrap_words(effect, width, first="  ")
    if decision.tests is not None:
        return
    for nodeid, test in session.record.tests.items():
        if test.invalid:
            yield from wrap_node_id(f"left out, invalid in that session: {nodeid}", width)
            yield from wrap_words("; ".join(test.invalid), width, first="  ")


def _headline(decision: Decision, session: StoredRecord) -> str:
    record = session.record
    commit = f"commit {record.provenance.commit[:12]}" if record.provenance.commit else "no commit"
    description = f"{session.path.name} ({record.recorded}, {commit})"
    if decision.kind == "accept":
        return f"accepted: the level of {description} is the one to compare with from now on, for"
    return f"anchored: creeping is measured from the level of {description} from now on, for"


def _window(shelf: Shelf, session: StoredRecord, nodeid: str) -> BaselineWindow:
    """Return the test's sessions that match ``session``, by role."""
    group = next(group for group in group_comparable(shelf.records) if session in group)
    workload = session.record.tests[nodeid].workload
    return window_of(group, nodeid, workload, shelf.decisions)


def _effects(decision: Decision, window: BaselineWindow) -> list[str]:
    """Write the effects of a decision on which sessions judge."""
    if decision.kind == "accept":
        judging, before = len(window.compared), len(window.history)
        return [
            f"{count(judging, 'session')} judge{'s' if judging == 1 else ''}; "
            f"{count(before, 'session')} before it no longer do{'es' if before == 1 else ''}"
        ]
    accepted, chosen = window.acceptance, window.chosen_anchor
    if accepted and chosen and chosen.session in window.history:
        return [f"note: it is older than the accepted level ({accepted.reason})"]
    return []


def baseline_json(
    folder: BaselineFolder,
    shelves: Mapping[str, Shelf],
    overviews: Mapping[str, Sequence[TestOverview]],
) -> dict[str, Any]:
    """Return the folder as plain JSON, as ``baseline show --json`` prints it.

        {schema, folder, tolerance, false_alarms, machines: [{key, sessions: [{file, recorded,
         provenance, model}], decisions: [{file, kind, decided, session, tests, reason, commit}],
         tests: [{nodeid, model, workload, summary, window [file], anchor [file], anchoring,
                  accepted, before_accepted [file], other_work [file], invalid [{file, reasons}],
                  metrics: {name: {unit, sessions, level, spread, drift, found_from,
                                   passes_to}}}]}]}

    Values are in base units, shares as fractions; ``anchoring`` and ``accepted`` are null or
    {session, when, reason, said_in}.
    """
    return {
        "schema": SCHEMA_VERSION,
        "folder": str(folder.store.root),
        "tolerance": folder.tolerance,
        "false_alarms": folder.false_alarms,
        "machines": [
            {
                "key": key,
                "sessions": [_session(stored) for stored in shelf.records],
                "decisions": [
                    {"file": stored.path.name, **vars(stored.decision)}
                    for stored in shelf.decisions
                ],
                "tests": [_test(overview) for overview in overviews[key]],
            }
            for key, shelf in shelves.items()
        ],
    }


def _session(stored: StoredRecord) -> dict[str, Any]:
    record = stored.record
    return {
        "file": stored.path.name,
        "recorded": record.recorded,
        "provenance": dict(vars(record.provenance)),
        "model": dict(vars(record.model)),
    }


def _test(overview: TestOverview) -> dict[str, Any]:
    sessions = overview.sessions
    return {
        "nodeid": overview.nodeid,
        "model": overview.model.name,
        "workload": overview.workload,
        "summary": overview.summary,
        "window": _files(overview.window),
        "anchor": _files(overview.anchor),
        "anchoring": _choice(sessions.chosen_anchor),
        "accepted": _choice(sessions.acceptance),
        "before_accepted": _files(sessions.history),
        "other_work": _files(overview.other_work),
        "invalid": [
            {"file": s.path.name, "reasons": list(s.record.tests[overview.nodeid].invalid)}
            for s in sessions.invalid
        ],
        "metrics": {line.name: _metric(line) for line in overview.metrics},
    }


def _metric(line: MetricOverview) -> dict[str, Any]:
    return {
        "unit": line.unit,
        "sessions": line.sessions,
        "level": line.level,
        "spread": line.spread,
        "drift": line.drift,
        "found_from": line.found_from,
        "passes_to": line.passes_to,
    }


def _choice(choice: SessionChoice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    return {
        "session": choice.session.path.name,
        "when": choice.moment.isoformat().replace("+00:00", "Z"),
        "reason": choice.reason,
        "said_in": choice.path.name,
    }


def _files(sessions: Iterable[StoredRecord]) -> list[str]:
    return [stored.path.name for stored in sessions]
