"""Lookup of the folder, machine, session and tests that a user names."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pytest_llmperf.baselines.store import BaselineStore, Shelf, StoredRecord


class WrongArgumentError(Exception):
    """An argument that names nothing that exists; str() is the complete message."""


@dataclass(frozen=True)
class BaselineFolder:
    """A folder of baselines, with the tolerance and error rate of its project's gate.

    Attributes:
        store: the folder.
        tolerance: a fraction.
        false_alarms: rate per session.
    """

    store: BaselineStore
    tolerance: float
    false_alarms: float


def find_baseline_folder(named: Path | None) -> BaselineFolder:
    """Return the named folder of baselines, or else the current project's.

    Raises:
        BaselineError: there is no such folder.
        ConfigError: the configuration cannot be used.
    """
    from pytest_llmperf.baselines.store import BaselineStore
    from pytest_llmperf.config.load import load_config
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.units import without_calibration

    if named is not None:
        folder, perf = named, PerfConfig()
    else:
        loaded = load_config(None, ProjectFolders.around(Path.cwd()), os.environ)
        folder, perf = _short(loaded.baselines_dir), loaded.config.perf
    if not folder.exists():
        raise BaselineError(
            f"{folder}: there is no such folder\n"
            "  record a session: pytest -m perf --llmperf-record; or name the folder: --dir FOLDER"
        )
    tolerance = without_calibration(perf.tolerance)
    return BaselineFolder(BaselineStore(folder), tolerance, perf.false_alarms)


def _short(folder: Path) -> Path:
    """Return a path relative to the current folder if it lies in it."""
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder


def choose_machines(store: BaselineStore, asked: str | None) -> dict[str, Shelf]:
    """Read the sessions of the requested machine, or of every machine that has some.

    Raises:
        WrongArgumentError: no such machine.
        BaselineError: nothing is recorded, or files cannot be used.
    """
    keys = store.machines()
    if asked is not None:
        if asked not in keys:
            raise WrongArgumentError(unknown("machine", asked, keys, str(store.root)))
        keys = [asked]
    shelves = {key: store.read_shelf(key) for key in keys}
    recorded = {key: shelf for key, shelf in shelves.items() if shelf.records}
    if not recorded:
        where = store.root if asked is None else store.root / asked
        raise BaselineError(
            f"{where}: no session is recorded there\n  record one: pytest -m perf --llmperf-record"
        )
    return recorded


def choose_machine(store: BaselineStore, asked: str | None) -> tuple[str, Shelf]:
    """Read the sessions of the requested machine, or of the only one.

    Machines of imported sessions are considered only if there are no others.

    Raises:
        WrongArgumentError: there is no such machine, or several and none is named.
        BaselineError: nothing is recorded, or files cannot be used.
    """
    from pytest_llmperf.baselines.match import own_records  # imports pydantic, which is slow

    shelves = choose_machines(store, asked)
    own = {key: shelf for key, shelf in shelves.items() if own_records(shelf.records)}
    if len(own) == 1:
        return next(iter(own.items()))
    if len(shelves) > 1:
        listed = "\n".join(f"  --machine {key}" for key in shelves)
        raise WrongArgumentError(f"{store.root} holds several machines; name one:\n{listed}")
    return next(iter(shelves.items()))


def choose_session(shelf: Shelf, asked: str | None) -> StoredRecord:
    """Return the session with this file name or path, or the newest one.

    Raises:
        WrongArgumentError: no such session.
    """
    if asked is None:
        return shelf.records[-1]
    folder = shelf.records[0].path.parent
    given = Path(asked)
    if given.name == asked or given.parent.resolve() == folder.resolve():
        for stored in shelf.records:
            if stored.path.name == given.name:
                return stored
    names = [stored.path.name for stored in shelf.records]
    raise WrongArgumentError(unknown("session", asked, names, str(folder)))


def choose_tests(
    asked: Sequence[str], known: Collection[str], where: str
) -> tuple[str, ...] | None:
    """Return the node ids that ``asked`` names; None if it is empty.

    A test is named by its node id, or by the end of its node id after any ``/``.

    Raises:
        WrongArgumentError: a test is unknown, or a name fits several.
    """
    if not asked:
        return None
    chosen: dict[str, None] = {}
    problems = []
    for name in asked:
        fitting = [name] if name in known else sorted(n for n in known if n.endswith(f"/{name}"))
        if len(fitting) > 1:
            listed = "\n".join(f"  {nodeid!r}" for nodeid in fitting)
            problems.append(f"{name!r} fits several tests; name one:\n{listed}")
        elif not fitting:
            problems.append(unknown("test", name, known, where))
        chosen |= dict.fromkeys(fitting)
    if problems:
        raise WrongArgumentError("\n".join(problems))
    return tuple(chosen)


def unknown(what: str, asked: str, known: Iterable[str], where: str) -> str:
    """Return the message for an unknown name, with the closest known names, or else a few."""
    names = sorted(known)
    near = difflib.get_close_matches(asked, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    else:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        hint = f"it has: {', '.join(map(repr, names[:5]))}{more}" if names else "it has none"
    return f"{where} has no {what} {asked!r}; {hint}"
