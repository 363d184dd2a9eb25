"""The folder of baselines: a subfolder per machine, one file per session, decisions beside them."""

from __future__ import annotations

import errno
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.baselines import decisions
from pytest_llmperf.baselines.errors import BadRecordError, BaselineError, restore
from pytest_llmperf.baselines.files import DECISION, read_decision, read_record
from pytest_llmperf.baselines.folder import DECISIONS_FOLDER, add_file
from pytest_llmperf.baselines.record import BaselineRecord, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import Decision, StoredDecision


@dataclass(frozen=True)
class StoredRecord:
    """A record and its file."""

    path: Path
    record: BaselineRecord


@dataclass(frozen=True)
class Shelf:
    """All records and decisions of one machine.

    Attributes:
        records: oldest first.
        decisions: in the order they were made; the session of each is among the records.
    """

    records: tuple[StoredRecord, ...] = ()
    decisions: tuple[StoredDecision, ...] = ()


class BaselineStore:
    """An append-only store of records and decisions under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, record: BaselineRecord) -> Path:
        """Store one record and return its path.

        Safe against concurrent writers and against being killed at any point.

        Raises:
            BaselineError: it could not be written; the message has the path and the fix;
                no existing file is touched.
        """
        folder = self.root / record.machine.key
        return _add(folder, "session", lambda: to_text(record), _record_stem(record))

    def write_decision(self, key: str, decision: Decision) -> Path:
        """Store one decision about a session of machine ``key`` and return its path.

        As safe as ``write``.

        Raises:
            BaselineError: as ``write``.
        """
        folder = self.root / key / DECISIONS_FOLDER
        stem = f"{re.sub(r'[-:]', '', decision.decided)}_{decision.kind}"
        return _add(folder, "decision", lambda: decisions.to_text(decision), stem)

    def machines(self) -> list[str]:
        """Return the keys of the machines that have a folder, sorted.

        Raises:
            BaselineError: the store's folder is not one, or cannot be read.
        """
        return [path.name for path in _list(self.root) if path.is_dir()]

    def read_machine(self, key: str) -> list[StoredRecord]:
        """Return the records of one machine, oldest first; [] if there are none.

        Raises:
            BaselineError: every bad record of that machine, in one message.
        """
        stored, bad = self._read_records(key)
        _raise_all(bad)
        return stored

    def read_shelf(self, key: str) -> Shelf:
        """Return the records and decisions of one machine.

        Raises:
            BaselineError: every bad file of that machine, in one message.
        """
        shelf, bad = self._read(key)
        _raise_all(bad)
        return shelf

    def read_decisions(self, key: str) -> list[StoredDecision]:
        """Return the decisions about one machine's sessions, in the order they were made.

        Raises:
            BaselineError: every bad decision of that machine, in one message.
        """
        made, bad = self._read_decisions(key, ())
        _raise_all(bad)
        return made

    def check_all(self) -> None:
        """Read every record and decision of every machine.

        Raises:
            BaselineError: every bad file, in one message.
        """
        misplaced = [
            BadRecordError(
                path, "a record outside a machine's folder", "move it into its machine's folder"
            )
            for path in _list(self.root)
            if path.suffix == ".json" and not path.is_dir()
        ]
        _raise_all([*misplaced, *(bad for key in self.machines() for bad in self._read(key)[1])])

    def _read(self, key: str) -> tuple[Shelf, list[BaselineError]]:
        records, bad = self._read_records(key)
        made, bad_decisions = self._read_decisions(key, records)
        return Shelf(tuple(records), tuple(made)), [*bad, *bad_decisions]

    def _read_records(self, key: str) -> tuple[list[StoredRecord], list[BaselineError]]:
        stored: list[StoredRecord] = []
        bad: list[BaselineError] = []
        for path in _list(self.root / key):
            if path.suffix != ".json":
                continue
            try:
                record = read_record(path)
                if record.machine.key != key:
                    raise BadRecordError(
                        path,
                        f"a record of machine {record.machine.key} in the folder of {key}",
                        f"move it into {self.root / record.machine.key}",
                    )
                stored.append(StoredRecord(path, record))
            except BaselineError as error:
                bad.append(error)
        return sorted(stored, key=_age), bad

    def _read_decisions(
        self, key: str, records: Sequence[StoredRecord]
    ) -> tuple[list[StoredDecision], list[BaselineError]]:
        made: list[StoredDecision] = []
        bad: list[BaselineError] = []
        # Sessions are looked up by name only, so no decision can lead out of the folder.
        names = {path.name for path in _list(self.root / key)}
        sessions = {stored.path.name: stored for stored in records}
        for path in _list(self.root / key / DECISIONS_FOLDER):
            if path.suffix != ".json":
                continue
            try:
                decision = read_decision(path)
                if decision.session not in names:
                    raise _session_gone(path, self.root / key / decision.session)
                if decision.session in sessions:
                    _check_tests(path, decision, sessions[decision.session])
                made.append(decisions.StoredDecision(path, decision))
            except BaselineError as error:
                bad.append(error)
        return sorted(made, key=lambda stored: (stored.decision.moment, stored.path.name)), bad


def _session_gone(path: Path, session: Path) -> BadRecordError:
    return BadRecordError(
        path,
        f"a decision about the session {session}, which no longer exists",
        f"restore the session (git log -- {shlex.quote(str(session))} names the commits that "
        f"had it), or revoke the decision: rm {shlex.quote(str(path))}",
    )


def _check_tests(path: Path, decision: Decision, session: StoredRecord) -> None:
    for nodeid in decision.tests or ():
        if nodeid not in session.record.tests:
            raise BadRecordError(
                path,
                f"decides about the test {nodeid!r}, which {session.path} does not hold",
                restore(path, DECISION.again),
            )


def _add(folder: Path, what: str, text: Callable[[], str], stem: str) -> Path:
    """Write a new file into ``folder``; ``what`` names it in messages."""
    try:
        content = text().encode()
    except ValueError as error:
        raise BaselineError(f"{folder}: the {what} cannot be recorded: {error}") from None
    try:
        return add_file(folder, stem, content)
    except OSError as error:
        raise BaselineError(_write_problem(folder, what, error)) from None


def _record_stem(record: BaselineRecord) -> str:
    stamp = re.sub(r"[-:]", "", record.recorded)
    commit = record.provenance.commit
    stem = f"{stamp}_{commit[:12] if commit else 'nocommit'}"
    return f"{stem}-dirty" if record.provenance.dirty else stem


def _age(stored: StoredRecord) -> tuple[str, str, int]:
    """Sort key: time, then the number that distinguishes sessions of one second."""
    stem, _, number = stored.path.stem.rpartition("-")
    if stem and number.isdigit():
        return stored.record.recorded, stem, int(number)
    return stored.record.recorded, stored.path.stem, 1


def _list(folder: Path) -> list[Path]:
    """List a folder, sorted, without hidden names; [] if there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise BaselineError(
            f"{folder}: the baselines' folder is a file\n"
            "  remove it, or name another folder in perf.baselines"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BaselineError(
            f"{folder}: the baselines' folder cannot be read: {reason}\n"
            "  give this user read and search permission on it"
        ) from None


def _write_problem(folder: Path, what: str, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        again = "record again" if what == "session" else "try again"
        remedy = f"make room and {again}; nothing was left behind"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "a file is where a folder is needed: remove it, or change perf.baselines"
    else:
        remedy = "make the folder writable, or name another one in perf.baselines"
    return f"{folder}: the {what} could not be recorded: {reason}\n  {remedy}"


def _raise_all(bad: list[BaselineError]) -> None:
    if len(bad) == 1:
        raise bad[0]
    if bad:
        listed = "\n".join(str(error) for error in bad)
        raise BaselineError(f"{len(bad)} baseline files cannot be used:\n{listed}")
