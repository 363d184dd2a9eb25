"""The verbs of ``llmperf baseline``: show, accept, anchor and prune."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.decisions import Decision, StoredDecision, now
from pytest_llmperf.baselines.lookup import (
    WrongArgumentError,
    choose_machine,
    choose_machines,
    choose_session,
    choose_tests,
    find_baseline_folder,
)
from pytest_llmperf.baselines.overview import overview
from pytest_llmperf.baselines.prune import KEEP, removable_sessions, remove
from pytest_llmperf.baselines.store import Shelf
from pytest_llmperf.cli.output import say, say_wrapped, width
from pytest_llmperf.gate.words import count
from pytest_llmperf.metrics import Unit
from pytest_llmperf.report.baseline import decision_lines
from pytest_llmperf.repository.state import read_provenance
from pytest_llmperf.text import shell_word
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.store import BaselineStore, StoredRecord


def show(arguments: argparse.Namespace) -> int:
    """Print every machine, session and test, or only the named ones.

    Raises:
        WrongArgumentError: a machine or test does not exist.
        BaselineError: nothing is stored, or the store can't be read.
    """
    folder = find_baseline_folder(arguments.dir)
    shelves = choose_machines(folder.store, arguments.machine)
    known = {name for shelf in shelves.values() for s in shelf.records for name in s.record.tests}
    tests = choose_tests(arguments.tests, known, str(folder.store.root))
    overviews = {
        key: overview(shelf, tests, folder.tolerance, folder.false_alarms)
        for key, shelf in shelves.items()
    }
    if arguments.json:
        from pytest_llmperf.report.baseline import baseline_json

        say(json.dumps(baseline_json(folder, shelves, overviews), indent=2, allow_nan=False))
    else:
        from pytest_llmperf.report.baseline import baseline_lines

        say(*baseline_lines(folder, shelves, overviews, tests, width()))
    return 0


def decide(arguments: argparse.Namespace) -> int:
    """Store the decision and print its effect.

    Raises:
        WrongArgumentError: machine, session or tests don't exist, or a test was invalid.
        BaselineError: the store can't be read or written.
    """
    folder = find_baseline_folder(arguments.dir)
    key, shelf = choose_machine(folder.store, arguments.machine)
    session = choose_session(shelf, arguments.session)
    tests = choose_tests(arguments.tests, session.record.tests, str(session.path))
    covered = _valid(session, tests)
    git = read_provenance(folder.store.root)
    decision = Decision(
        kind=arguments.verb,
        decided=now(),
        session=session.path.name,
        tests=tests,
        reason=arguments.reason,
        commit=git.commit,
    )
    path = folder.store.write_decision(key, decision)
    decided = Shelf(shelf.records, (*shelf.decisions, StoredDecision(path, decision)))
    say(*decision_lines(decision, session, decided, covered, width()))
    if git.problem:
        say_wrapped(
            f"note: it names no commit, because git can't be used: {git.problem}", indent="  "
        )
    say("decision stored; to commit it:", f"  git add {shell_word(str(path))} && git commit")
    return 0


def _valid(session: StoredRecord, tests: tuple[str, ...] | None) -> list[str]:
    """Return the tests that the decision covers.

    Raises:
        WrongArgumentError: a named test, or every test, was invalid in the session.
    """
    invalid = {name: test.invalid for name, test in session.record.tests.items() if test.invalid}
    covered = [name for name in tests or session.record.tests if name not in invalid]
    if (tests and any(name in invalid for name in tests)) or not covered:
        listed = "\n".join(
            f"  {name!r}: {'; '.join(invalid[name])}"
            for name in tests or invalid
            if name in invalid
        )
        raise WrongArgumentError(
            f"{session.path} can't be used for these tests, which were invalid in it:\n{listed}\n"
            "  name another session: --session FILE"
        )
    return sorted(covered)


def prune(arguments: argparse.Namespace) -> int:
    """List the removable sessions; with ``--yes`` remove them, file by file.

    Raises:
        WrongArgumentError: the machine does not exist, or must be named because there are several.
        BaselineError: the store can't be read, or a file can't be removed.
    """
    folder = find_baseline_folder(arguments.dir)
    key, shelf = choose_machine(folder.store, arguments.machine)
    keep = KEEP if arguments.keep is None else arguments.keep
    going = removable_sessions(shelf, keep)
    if not going:
        say_wrapped(
            f"{folder.store.root / key}: nothing to remove, every session is still needed (the "
            f"newest {keep} of each test, anchors, accepted levels, what decisions name)"
        )
        return 0
    if arguments.yes:
        return _remove(folder.store, key, going)
    are = "is" if len(going) == 1 else "are"
    say_wrapped(
        f"{folder.store.root / key}: {len(going)} of {count(len(shelf.records), 'session')} "
        f"{are} no longer needed (the newest {keep} of each test, anchors, accepted levels and "
        "what decisions name stay)"
    )
    for stored in going:
        say(f"  {stored.path.name}  {_size(stored.path)}")
    say_wrapped(
        "nothing was removed. Sessions that were never committed can't be restored. To go ahead:"
    )
    say(f"  {_command(arguments)}")
    return 0


def _remove(store: BaselineStore, key: str, going: Sequence[StoredRecord]) -> int:
    removed = 0
    for path in remove(store, key, going):
        say(f"removed {path}")
        removed += 1
    folder = shell_word(str(store.root / key))
    say(f"{count(removed, 'session')} removed; commit it:", f"  git add -A {folder} && git commit")
    return 0


def _size(path: Path) -> str:
    try:
        return format_quantity(path.stat().st_size, Unit.BYTES)
    except OSError:  # removed in the meantime
        return "gone"


def _command(arguments: argparse.Namespace) -> str:
    """Return this command with ``--yes``."""
    words = ["llmperf", "baseline", "prune"]
    if arguments.dir is not None:
        words += ["--dir", str(arguments.dir)]
    if arguments.machine is not None:
        words += ["--machine", arguments.machine]
    if arguments.keep is not None:
        words += ["--keep", str(arguments.keep)]
    return " ".join(map(shell_word, [*words, "--yes"]))


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "show": show,
    "accept": decide,
    "anchor": decide,
    "prune": prune,
}
