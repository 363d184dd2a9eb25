"""``llmperf baseline accept`` and ``anchor``: write a decision about a recorded session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.decisions import Decision, StoredDecision, now
from pytest_llmperf.baselines.match import alike
from pytest_llmperf.baselines.store import Shelf
from pytest_llmperf.baselines.window import BaselineWindow, window_of
from pytest_llmperf.cli.baseline_choice import (
    WrongArgumentError,
    choose_machine,
    choose_session,
    choose_tests,
    find_place,
)
from pytest_llmperf.cli.output import say, say_words, width
from pytest_llmperf.gate.words import count
from pytest_llmperf.repository.provenance import read_provenance
from pytest_llmperf.text import shell_word, wrap_node_id

if TYPE_CHECKING:
    import argparse

    from pytest_llmperf.baselines.store import StoredRecord


def decide(arguments: argparse.Namespace) -> int:
    """Write the decision and say what it changes.

    Raises:
        WrongArgumentError: machine, session or tests are not there, or a test was invalid.
        BaselineError: the store cannot be read or written.
    """
    place = find_place(arguments)
    key, shelf = choose_machine(place.store, arguments.machine)
    session = choose_session(shelf, arguments.session)
    tests = choose_tests(arguments.tests, session.record.tests, str(session.path))
    covered = _valid(session, tests)
    git = read_provenance(place.store.root)
    decision = Decision(
        kind=arguments.verb,
        decided=now(),
        session=session.path.name,
        tests=tests,
        reason=arguments.reason,
        commit=git.commit,
    )
    path = place.store.write_decision(key, decision)
    say_words(_what_was_done(decision, session), indent="  ")
    decided = Shelf(shelf.records, (*shelf.decisions, StoredDecision(path, decision)))
    for nodeid in covered:
        say(*wrap_node_id(nodeid, width()))
        standing = _standing(decided, session, nodeid)
        for effect in _effects(decision, standing):
            say_words(effect, first="  ", indent="  ")
    for nodeid, reasons in _left_out(session, tests):
        say(*wrap_node_id(f"left out, invalid in that session: {nodeid}", width()))
        say_words("; ".join(reasons), first="  ", indent="  ")
    if git.problem:
        say_words(
            f"note: it names no commit, because git can't be asked: {git.problem}", indent="  "
        )
    say("wrote it down; commit it:", f"  git add {shell_word(str(path))} && git commit")
    return 0


def _valid(session: StoredRecord, tests: tuple[str, ...] | None) -> list[str]:
    """Return the tests that the decision is about.

    Raises:
        WrongArgumentError: a named one, or every one, was invalid in the session.
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
            f"{session.path} can't stand for these tests, which were invalid in it:\n{listed}\n"
            "  name another session: --session FILE"
        )
    return sorted(covered)


def _left_out(
    session: StoredRecord, tests: tuple[str, ...] | None
) -> list[tuple[str, tuple[str, ...]]]:
    if tests is not None:
        return []
    return [(name, test.invalid) for name, test in session.record.tests.items() if test.invalid]


def _what_was_done(decision: Decision, session: StoredRecord) -> str:
    record = session.record
    commit = f"commit {record.provenance.commit[:12]}" if record.provenance.commit else "no commit"
    named = f"{session.path.name} ({record.recorded}, {commit})"
    if decision.kind == "accept":
        return f"accepted: the level of {named} is the one to compare with from now on, for"
    return f"anchored: creeping is measured from the level of {named} from now on, for"


def _standing(shelf: Shelf, session: StoredRecord, nodeid: str) -> BaselineWindow:
    """Return where the test's sessions stand that match ``session``."""
    group = next(group for group in alike(shelf.records) if session in group)
    workload = session.record.tests[nodeid].workload
    return window_of(group, nodeid, workload, shelf.decisions)


def _effects(decision: Decision, standing: BaselineWindow) -> list[str]:
    """Say what judges from now on."""
    if decision.kind == "accept":
        judging, before = len(standing.judging), len(standing.history)
        return [
            f"{count(judging, 'session')} judge{'s' if judging == 1 else ''}; "
            f"{count(before, 'session')} before it no longer do{'es' if before == 1 else ''}"
        ]
    accepted, chosen = standing.acceptance, standing.anchoring
    if accepted and chosen and chosen.session in standing.history:
        return [f"note: it is older than the accepted level ({accepted.reason})"]
    return []
