"""``llmperf history``: print every test's metrics over the commits, and where they changed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cli.output import complain

if TYPE_CHECKING:
    from typing import Any

    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.index import LevelIndex
    from pytest_llmperf.history.sessions import RecordedSessions
    from pytest_llmperf.repository.git import Repository

_WIDEST = 120
_NARROWEST = 60


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``history`` to the command line."""
    history = commands.add_parser(
        "history", help="show the recorded sessions over the commits, and where levels changed"
    )
    history.add_argument(
        "tests",
        nargs="*",
        metavar="TEST",
        help="full node ids, or their ends from the file name on: test_chat.py::test_short",
    )
    history.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="such as tokens_per_sec, or all; can be given again; default: one of each quantity",
    )
    history.add_argument(
        "--since",
        metavar="REV|DATE",
        help="leave out sessions before a commit, or before 2026-03-01",
    )
    history.add_argument(
        "--limit", type=whole_number(), metavar="N", help="only the newest sessions of each test"
    )
    history.add_argument(
        "--dir",
        type=Path,
        metavar="FOLDER",
        help="of the baselines; default: perf.baselines of the project's config.yaml",
    )
    history.add_argument("--machine", metavar="KEY", help="one machine's folder in it")
    form = history.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, a row per session and metric")


def run(arguments: argparse.Namespace) -> int:
    """Print the history; 1 is a problem with repository or baselines, 2 a wrong argument."""
    from pytest_llmperf.baselines.choice import WrongArgumentError
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.repository.git import GitError
    from pytest_llmperf.repository.revisions import RevisionError

    try:
        _show(arguments)
        sys.stdout.flush()
    except (WrongArgumentError, RevisionError) as error:
        return complain(error, 2)
    except (BaselineError, ConfigError, GitError) as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        # Whoever read along has seen enough; Python must not complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _show(arguments: argparse.Namespace) -> None:
    if "numpy" not in sys.modules:
        # No matrix is multiplied here: threads that wait for one only cost time and memory.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pytest_llmperf.history.choice import repository_around
    from pytest_llmperf.report.history_warnings import (
        SHALLOW,
        no_change_points,
        unreadable_warnings,
    )

    folder = _folder(arguments.dir)
    repository = repository_around(folder)
    history = _history(arguments, folder, repository)
    _print(history, arguments)
    _warn(*unreadable_warnings(history.unreadable))
    if history.library is None and (arguments.json or arguments.csv):  # the text has its own
        from pytest_llmperf.history.change_points import INSTALL

        _warn(no_change_points(INSTALL))
    if repository.is_shallow():
        _warn(SHALLOW)


def _history(arguments: argparse.Namespace, folder: Path, repository: Repository) -> History:
    from pytest_llmperf.baselines.choice import choose_tests
    from pytest_llmperf.history.choice import choose_metrics, choose_start

    recorded = _recorded(arguments.machine, folder, repository)
    where = recorded.folder or "."
    from pytest_llmperf.history.build import build_history  # numpy: not before it is needed

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
        BaselineError: nothing is.
        WrongArgumentError: there is no such machine.
        GitError: the repository cannot be used.
    """
    from pytest_llmperf.baselines.choice import WrongArgumentError, unknown
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.cli.progress_bar import ProgressBar
    from pytest_llmperf.history.sessions import read_sessions
    from pytest_llmperf.report.history_warnings import index_warnings, unreadable_warnings

    below = folder.resolve().relative_to(repository.top).as_posix()
    below = "" if below == "." else below
    index = _index()
    with ProgressBar("reading records") as bar:
        recorded = read_sessions(repository, below, machine, index, bar)
    if index is not None:
        _warn(*index_warnings(index))
    if recorded.sessions:
        return recorded
    if machine is not None:
        known = read_sessions(repository, below, index=index).machines()
        if known and machine not in known:
            raise WrongArgumentError(unknown("machine", machine, known, str(folder)))
    _warn(*unreadable_warnings(recorded.unreadable))
    raise BaselineError(
        f"{folder}: no session was ever recorded there, in the work tree or in the history of "
        f"HEAD\n  record one: pytest -m perf --llmperf-record; or name the folder: --dir FOLDER"
    )


def _index() -> LevelIndex | None:
    """Open the index of records read before; None where Python was built without SQLite."""
    from pytest_llmperf.config.embedded import cache_dir

    try:
        from pytest_llmperf.history.index import LevelIndex
    except ImportError as error:
        _warn(f"records are read again each time ({error})")
        return None
    return LevelIndex(cache_dir(os.environ) / "history")


def _folder(asked: Path | None) -> Path:
    """Return the baselines' folder; it need not be there any more."""
    if asked is not None:
        return asked
    from pytest_llmperf.config.load import load_config
    from pytest_llmperf.config.project import ProjectFolders

    return load_config(None, ProjectFolders.around(Path.cwd()), os.environ).baselines_dir


def _print(history: History, arguments: argparse.Namespace) -> None:
    from pytest_llmperf.cli.output import say

    if arguments.json:
        from pytest_llmperf.report.history_json import history_json

        say(history_json(history))
    elif arguments.csv:
        from pytest_llmperf.report.history_csv import write_csv

        # What the stream's encoding lacks is shown as an escape, as everywhere.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        write_csv(history, sys.stdout)
    elif not history.groups:
        say("no session of what was asked for is left")
    else:
        from pytest_llmperf.report.history_text import history_lines
        from pytest_llmperf.report.sparkline import bars_for

        say(*history_lines(history, _columns(), bars_for(sys.stdout.encoding)))


def _warn(*messages: str) -> None:
    for message in messages:
        print(f"llmperf: {message}", file=sys.stderr)


def _columns() -> int:
    """Return the columns to fill: longer lines than prose has, since sparklines gain by it."""
    import shutil

    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))
