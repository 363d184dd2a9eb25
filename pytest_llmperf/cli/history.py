"""``llmperf history``: every test's metrics over the commits, and where they changed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cli.output import complain
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.index import LevelIndex
    from pytest_llmperf.history.sessions import RecordedSessions
    from pytest_llmperf.repository.git import Repository
    from pytest_llmperf.repository.revisions import Revision

_WIDEST = 120
_NARROWEST = 60
#: Unreadable records that are named; the others are counted.
_NAMED = 10


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
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.cli.baseline_choice import WrongArgumentError
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

    folder = _folder(arguments.dir)
    repository = _repository_around(folder)
    history = _history(arguments, folder, repository)
    _print(history, arguments)
    _remark(history, repository, text=not (arguments.json or arguments.csv))


def _history(arguments: argparse.Namespace, folder: Path, repository: Repository) -> History:
    from pytest_llmperf.cli.baseline_choice import choose_tests

    recorded = _recorded(arguments.machine, folder, repository)
    where = recorded.folder or "."
    from pytest_llmperf.history.build import build_history  # numpy: not before it is needed

    return build_history(
        recorded,
        tests=choose_tests(arguments.tests, recorded.tests(), where),
        metrics=_metrics(arguments.metric, recorded.metrics(), where),
        since=_since(arguments.since, repository),
        limit=arguments.limit,
    )


def _recorded(machine: str | None, folder: Path, repository: Repository) -> RecordedSessions:
    """Read what is recorded.

    Raises:
        BaselineError: nothing is.
        WrongArgumentError: there is no such machine.
        GitError: the repository cannot be used.
    """
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.cli.baseline_choice import WrongArgumentError, unknown
    from pytest_llmperf.cli.progress_bar import ProgressBar
    from pytest_llmperf.history.sessions import read_sessions

    below = folder.resolve().relative_to(repository.top).as_posix()
    below = "" if below == "." else below
    index = _index()
    with ProgressBar("reading records") as bar:
        recorded = read_sessions(repository, below, machine, index, bar)
    if index is not None:
        _remark_on_index(index)
    if recorded.sessions:
        return recorded
    if machine is not None:
        known = read_sessions(repository, below, index=index).machines()
        if known and machine not in known:
            raise WrongArgumentError(unknown("machine", machine, known, str(folder)))
    _name_unreadable(recorded.unreadable)
    raise BaselineError(
        f"{folder}: no session was ever recorded there, in the work tree or in the history of "
        f"HEAD\n  record one: pytest -m perf --llmperf-record; or name the folder: --dir FOLDER"
    )


def _index() -> LevelIndex | None:
    """Return what earlier commands read; None where Python was built without SQLite."""
    from pytest_llmperf.config.embedded import cache_dir

    try:
        from pytest_llmperf.history.index import LevelIndex
    except ImportError as error:
        print(f"llmperf: records are read again each time ({error})", file=sys.stderr)
        return None
    return LevelIndex(cache_dir(os.environ) / "history")


def _remark_on_index(index: LevelIndex) -> None:
    """Say on the standard error why all records had to be read again, if they had to."""
    file = printable(str(index.file))
    if index.problem:
        print(
            f"llmperf: {file} cannot be used ({printable(index.problem)}): records are read again "
            "each time; to keep what was read in another folder: LLMPERF_CACHE_DIR",
            file=sys.stderr,
        )
    elif index.damage:
        print(
            f"llmperf: {file} could not be read ({printable(index.damage)}): it was started "
            "again, from the records themselves",
            file=sys.stderr,
        )


def _folder(asked: Path | None) -> Path:
    """Return the baselines' folder; it need not be there any more."""
    if asked is not None:
        return asked
    from pytest_llmperf.config.load import load_config
    from pytest_llmperf.config.project import ProjectFolders

    return load_config(None, ProjectFolders.around(Path.cwd()), os.environ).baselines_dir


def _repository_around(folder: Path) -> Repository:
    """Return the repository that a folder is, or was, in.

    Raises:
        BaselineError: there is none.
    """
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.repository.git import Repository

    there = folder.resolve()
    while not there.is_dir() and there != there.parent:
        there = there.parent
    repository = Repository.around(there)
    if repository is None or not folder.resolve().is_relative_to(repository.top):
        raise BaselineError(
            f"{folder}: not in a git repository, so there is no history\n"
            "  what is recorded there: llmperf baseline show; or name a folder in a repository: "
            "--dir FOLDER"
        )
    return repository


def _metrics(asked: list[str] | None, known: Collection[str], where: str) -> Collection[str] | None:
    """Return the metrics asked for, None for the default ones.

    Raises:
        WrongArgumentError: one was never recorded.
    """
    from pytest_llmperf.cli.baseline_choice import WrongArgumentError, unknown

    if asked is None:
        return None
    if "all" in asked:
        return known
    for name in asked:
        if name not in known:
            raise WrongArgumentError(unknown("metric", name, known, where))
    return asked


def _since(asked: str | None, repository: Repository) -> Revision | str | None:
    """Return the date or the commit asked for.

    Raises:
        RevisionError, WrongArgumentError: it is neither.
    """
    from datetime import datetime

    from pytest_llmperf.cli.baseline_choice import WrongArgumentError
    from pytest_llmperf.history.build import DATE
    from pytest_llmperf.repository.revisions import resolve

    if asked is None:
        return None
    if not DATE.fullmatch(asked):
        return resolve(repository, asked)
    try:
        datetime.fromisoformat(asked.removesuffix("Z"))
    except ValueError:
        raise WrongArgumentError(f"--since {asked}: there is no such day or time") from None
    return asked


def _print(history: History, arguments: argparse.Namespace) -> None:
    from pytest_llmperf.cli.output import say

    if arguments.json:
        from pytest_llmperf.report.history_data import history_json

        say(history_json(history))
    elif arguments.csv:
        from pytest_llmperf.report.history_data import write_csv

        # What the stream's encoding lacks is shown as an escape, as everywhere.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        write_csv(history, sys.stdout)
    elif not history.groups:
        say("no session of what was asked for is left")
    else:
        from pytest_llmperf.report.history import history_lines
        from pytest_llmperf.report.sparkline import bars_for

        say(*history_lines(history, _columns(), bars_for(sys.stdout.encoding)))


def _columns() -> int:
    """Columns to fill: longer lines than prose may have, since sparklines gain by it."""
    import shutil

    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))


def _remark(history: History, repository: Repository, *, text: bool) -> None:
    """Say on the standard error what is not in the history shown, and why."""
    _name_unreadable(history.unreadable)
    if history.library is None and not text:  # the text says so itself
        from pytest_llmperf.history.change_points import INSTALL

        said = f"llmperf: change points are not looked for; to have them: {INSTALL}"
        print(said, file=sys.stderr)
    if repository.is_shallow():
        print(
            "llmperf: this is a shallow clone: sessions that were removed before its first commit "
            "are missing, and orders of commits unknown; to have them: git fetch --unshallow",
            file=sys.stderr,
        )


def _name_unreadable(unreadable: Mapping[str, str]) -> None:
    from pytest_llmperf.gate.words import count
    from pytest_llmperf.text import printable_lines

    if not unreadable:
        return
    print(f"llmperf: {count(len(unreadable), 'file')} left out:", file=sys.stderr)
    for path, why in list(unreadable.items())[:_NAMED]:
        print(f"  {printable(path)}: {printable_lines(why, '    ')}", file=sys.stderr)
    if len(unreadable) > _NAMED:
        print(f"  and {len(unreadable) - _NAMED} more", file=sys.stderr)
