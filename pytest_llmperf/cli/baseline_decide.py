"""``llmperf baseline accept`` and ``anchor``: store a decision about a recorded session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.choice import (
    WrongArgumentError,
    choose_machine,
    choose_session,
    choose_tests,
    find_baseline_folder,
)
from pytest_llmperf.baselines.decisions import Decision, StoredDecision, now
from pytest_llmperf.baselines.store import Shelf
from pytest_llmperf.cli.output import say, say_words, width
from pytest_llmperf.report.decision_text import decision_lines
from pytest_llmperf.repository.state import read_provenance
from pytest_llmperf.text import shell_word

if TYPE_CHECKING:
    import argparse

    from pytest_llmperf.baselines.store import StoredRecord


def decide(arguments: argparse.Namespace) -> int:
    """Store the decision and print what it changes.

    Raises:
        WrongArgumentError: machine, session or tests are not there, or a test was invalid.
        BaselineError: the store cannot be read or written.
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
        say_words(
            f"note: it names no commit, because git can't be used: {git.problem}", indent="  "
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
            f"{session.path} can't be used for these tests, which were invalid in it:\n{listed}\n"
            "  name another session: --session FILE"
        )
    return sorted(covered)
