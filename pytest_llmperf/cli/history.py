"""``llmperf history``: print every test's metrics over the commits, and where they changed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cli.baseline import TESTS_HELP
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_folder_options, baselines_folder
from pytest_llmperf.cli.output import note, run_reporting, say, width
from pytest_llmperf.gate.words import count
from pytest_llmperf.text import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.index import LevelIndex
    from pytest_llmperf.history.sessions import RecordedSessions
    from pytest_llmperf.repository.git import Repository

_WIDEST = 120
_NARROWEST = 60
#: Maximum number of unreadable records to name; the others are counted.
_NAMED = 10
_BAR_WIDTH = 30
#: Seconds between two drawings of the bar, and before the first: quick work needs no bar.
_PAUSE = 0.2
_SHALLOW = (
    "this is a shallow clone: sessions that were removed before its first commit "
    "are missing, and orders of commits unknown; to get them: git fetch --unshallow"
)


_DESCRIPTION = """\
Shows every metric of the recorded sessions over the commits, and marks where its level
changed. Nothing is run.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "shown",
    1: "a problem with the repository or the baselines",
    2: "a wrong argument",
}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``history`` to the command line."""
    history = commands.add_parser(
        "history",
        help="show every metric over the commits, with its changes",
        description=_DESCRIPTION,
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )
    history.add_argument(
        "tests",
        nargs="*",
        default=[],
        metavar="TEST",
        help=TESTS_HELP,
    )
    history.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="this metric, such as tokens_per_sec, or all (repeatable; default: one per quantity)",
    )
    history.add_argument(
        "--since",
        metavar="REV|DATE",
        help="leave out sessions before a commit, or before a date such as 2026-03-01",
    )
    history.add_argument(
        "--limit", type=whole_number(), metavar="N", help="only the newest N sessions of each test"
    )
    add_folder_options(history)
    form = history.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, a row per session and metric")


def run(arguments: argparse.Namespace) -> int:
    """Print the history; return 1 for a repository or baseline problem, 2 for a wrong argument."""
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.baselines.lookup import WrongArgumentError
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.repository.git import GitError
    from pytest_llmperf.repository.revisions import RevisionError

    return run_reporting(
        lambda: _show(arguments),
        wrong=(WrongArgumentError, RevisionError),
        problems=(BaselineError, ConfigError, GitError),
    )


def _show(arguments: argparse.Namespace) -> int:
    if "numpy" not in sys.modules:
        # No matrix is multiplied here, so OpenBLAS threads would only cost time and memory.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pytest_llmperf.history.lookup import repository_around

    folder = baselines_folder(arguments)
    repository = repository_around(folder)
    history = _history(arguments, folder, repository)
    _print(history, arguments)
    _note_unreadable(history.unreadable)
    if history.library is None and (arguments.json or arguments.csv):  # the text says so itself
        from pytest_llmperf.history.change_points import INSTALL

        note(f"change points are not looked for; to find them: {INSTALL}")
    if repository.is_shallow():
        note(_SHALLOW)
    return 0


def _history(arguments: argparse.Namespace, folder: Path, repository: Repository) -> History:
    from pytest_llmperf.baselines.lookup import choose_tests
    from pytest_llmperf.history.lookup import choose_metrics, choose_start

    recorded = _recorded(arguments.machine, folder, repository)
    where = recorded.folder or "."
    from pytest_llmperf.history.build import build_history  # loads numpy

    return build_history(
        recorded,
        tests=choose_tests(arguments.tests, recorded.tests(), where),
        metrics=choose_metrics(arguments.metric, recorded.metrics(), where),
        since=choose_start(arguments.since, repository),
        limit=arguments.limit,
    )


def _recorded(machine: str | None, folder: Path, repository: Repository) -> RecordedSessions:
    """Read the recorded sessions.

    Raises:
        BaselineError: no session is recorded.
        WrongArgumentError: there is no such machine.
        GitError: the repository can't be used.
    """
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.baselines.lookup import WrongArgumentError, unknown
    from pytest_llmperf.history.sessions import open_index, read_sessions

    below = folder.resolve().relative_to(repository.top).as_posix()
    below = "" if below == "." else below
    index = open_index(note)
    with ProgressBar("reading records") as bar:
        recorded = read_sessions(repository, below, machine, index, bar)
    if index is not None:
        _note_index_problems(index)
    if recorded.sessions:
        return recorded
    if machine is not None:
        known = read_sessions(repository, below, index=index).machines()
        if known and machine not in known:
            raise WrongArgumentError(unknown("machine", machine, known, str(folder)))
    _note_unreadable(recorded.unreadable)
    raise BaselineError(
        f"{folder}: no session was ever recorded there, in the work tree or in the history of "
        f"HEAD\n  record one: pytest -m perf --llmperf-record; or name the folder: --dir FOLDER"
    )


def _print(history: History, arguments: argparse.Namespace) -> None:
    if arguments.json:
        from pytest_llmperf.report.history_export import history_json

        say(history_json(history))
    elif arguments.csv:
        from pytest_llmperf.report.history_export import write_csv

        # Characters that the stream can't encode are shown as escapes, as in all output.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        write_csv(history, sys.stdout)
    elif not history.groups:
        say(*_nothing_to_show(history.all_invalid))
    else:
        from pytest_llmperf.report.history import bars_for, history_lines

        # Lines may be longer than in prose, for the benefit of sparklines.
        columns = width(_NARROWEST, _WIDEST)
        say(*history_lines(history, columns, bars_for(sys.stdout.encoding)))


def _nothing_to_show(invalid: int) -> tuple[str, ...]:
    """Return lines that explain why the recorded sessions have no series to show."""
    if not invalid:
        return ("nothing to show: no recorded session matches these arguments",)
    results = f"all {invalid} recorded results are" if invalid > 1 else "the recorded result is"
    return (
        f"nothing to show: {results} invalid, because the machine was disturbed",
        "  record on a quiet machine: pytest -m perf --llmperf-record",
    )


def _note_index_problems(index: LevelIndex) -> None:
    """Print a note if all records had to be read again, with the reason."""
    file = printable(str(index.file))
    if index.problem:
        note(
            f"{file} can't be used ({printable(index.problem)}), so records are read again "
            "each time; to cache them in another folder, set LLMPERF_CACHE_DIR"
        )
    elif index.damage:
        note(
            f"{file} could not be read ({printable(index.damage)}): it was started "
            "again, from the records themselves"
        )


def _note_unreadable(unreadable: Mapping[str, str]) -> None:
    """Print a note that names the files that were left out, each with its reason."""
    if not unreadable:
        return
    lines = [f"{count(len(unreadable), 'file')} left out:"]
    for path, why in list(unreadable.items())[:_NAMED]:
        lines.append(f"  {printable(path)}: {printable_lines(why, '    ')}")
    if len(unreadable) > _NAMED:
        lines.append(f"  and {len(unreadable) - _NAMED} more")
    note("\n".join(lines))


class ProgressBar:
    """Progress bar on standard error; a context manager that removes it at the end.

    ``what`` says what is being done, in a word or two.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _PAUSE if sys.stderr.isatty() else float("inf")
        self._drawn = 0

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar, unless it was drawn a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE
        full = _BAR_WIDTH * done // total
        bar = f"{'#' * full}{'.' * (_BAR_WIDTH - full)}"
        # A line that wraps can't be overwritten.
        room = shutil.get_terminal_size((80, 24)).columns - 1
        line = f"{self._what} [{bar}] {done:,} of {total:,}"[:room]
        self._write(f"\r{line:<{self._drawn}}")
        self._drawn = len(line)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._write(f"\r{'':{self._drawn}}\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
