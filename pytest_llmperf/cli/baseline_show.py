"""``llmperf baseline show``: the stored sessions and what they can decide, as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.overview import MetricOverview, TestOverview, overview
from pytest_llmperf.cli.baseline_choice import (
    choose_machines,
    choose_tests,
    find_place,
)
from pytest_llmperf.cli.baseline_json import as_json
from pytest_llmperf.cli.output import say, say_words, width
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.text import display_width, pack, pad, printable, wrap_node_id
from pytest_llmperf.units import format_change, format_quantity

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.store import Shelf, StoredRecord
    from pytest_llmperf.cli.baseline_choice import Place

_HEADER = ("metric", "level", "over", "spread", "drift", "found from", "passes to")


def show(arguments: argparse.Namespace) -> int:
    """Print every machine, session and test, or the named ones.

    Raises:
        WrongArgumentError: a machine or test is not there.
        BaselineError: nothing is stored, or the store cannot be read.
    """
    place = find_place(arguments)
    shelves = choose_machines(place.store, arguments.machine)
    known = {name for shelf in shelves.values() for s in shelf.records for name in s.record.tests}
    tests = choose_tests(arguments.tests, known, str(place.store.root))
    looks = {
        key: overview(shelf, tests, place.tolerance, place.false_alarms)
        for key, shelf in shelves.items()
    }
    if arguments.json:
        say(json.dumps(as_json(place, shelves, looks), indent=2, allow_nan=False))
        return 0
    for number, (key, shelf) in enumerate(shelves.items()):
        if looks[key]:
            say(*([""] if number else []))
            _show_machine(place.store.root / key, shelf, looks[key], tests)
    say("")
    _show_legend(place)
    return 0


def _show_machine(
    folder: Path, shelf: Shelf, looks: Sequence[TestOverview], tests: Sequence[str] | None
) -> None:
    numbers = {stored.path.name: number for number, stored in enumerate(shelf.records, start=1)}
    say_words(f"{folder}: {count(len(shelf.records), 'session')}")
    for stored in shelf.records:
        if tests is None or any(nodeid in stored.record.tests for nodeid in tests):
            _show_session(numbers[stored.path.name], stored)
    for look in looks:
        say("")
        _show_test(look, numbers)


def _show_session(number: int, stored: StoredRecord) -> None:
    record, source = stored.record, stored.record.provenance
    say(*pack([f"  #{number}", printable(stored.path.name)], width(), "    "))
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
    say_words(", ".join(facts), first="      ", indent="      ")


def _show_test(look: TestOverview, numbers: Mapping[str, int]) -> None:
    standing = look.standing
    say(*wrap_node_id(look.nodeid, width()))
    say_words(f"{look.model.name}: {look.summary}", first="  ", indent="  ")
    facts = []
    if look.window:
        facts.append(f"window, which judges: {_named(look.window, numbers)}")
        chosen = standing.anchoring
        why = f"chosen {chosen.moment:%Y-%m-%d}: {chosen.reason}" if chosen else "the oldest"
        facts.append(f"anchor: {_named(look.anchor, numbers)} ({why})")
    if standing.acceptance:
        accepted = standing.acceptance
        number = _named((accepted.session,), numbers)
        facts.append(f"accepted {accepted.moment:%Y-%m-%d}: {number} ({accepted.reason})")
    if standing.history:
        facts.append(f"before the accepted level: {_named(standing.history, numbers)}")
    if look.other_work:
        facts.append(f"measured another workload: {_named(look.other_work, numbers)}")
    for stored in standing.invalid:
        reasons = "; ".join(stored.record.tests[look.nodeid].invalid)
        facts.append(f"invalid: {_named((stored,), numbers)} ({reasons})")
    for fact in facts:
        say_words(fact, first="  ", indent="    ")
    if look.metrics:
        say(*_table([_HEADER, *map(_cells, look.metrics)]))


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
        "-" if line.drift is None else format_change(line.drift),
        "-" if line.found_from is None else f"{line.found_from:.1%}",
        "-" if line.passes_to is None else format_change(line.passes_to),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay rows out under their header; in two lines each where the terminal is too narrow."""
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= width():
        return [
            "  " + "  ".join(pad(text, w) for text, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    lines = []
    for row in rows[1:]:
        named = [f"{name} {text}" for name, text in zip(rows[0][1:], row[1:], strict=True)]
        lines += [f"  {row[0]}", "    " + pack(named, width() - 4, "")[0]]
        lines += ["    " + line for line in pack(named, width() - 4, "")[1:]]
    return lines


def _show_legend(place: Place) -> None:
    say_words(
        "level: median over the window's sessions; spread: standard deviation between them; "
        "drift: from the anchor to the window, + is slower. What these sessions alone can decide "
        f"(tolerance {percent(place.tolerance)}, false alarms {percent(place.false_alarms)} for "
        "a session of one check, more checks need more): found from: the slowdown that is called "
        "regressed half of the time; passes to: the largest measured slowdown that passes "
        "(below 0: an unchanged test does not pass by them)."
    )
