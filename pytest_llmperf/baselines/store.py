"""The folder of baselines: one file per recorded session, a subfolder per machine, append-only."""

from __future__ import annotations

import errno
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.atomic import publish, sweep
from pytest_llmperf.baselines.errors import BadRecordError, BaselineError
from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.baselines.record import BaselineRecord, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class StoredRecord:
    """A record and the file it lies in."""

    path: Path
    record: BaselineRecord


class BaselineStore:
    """Reads and adds records under ``root``; never changes or removes one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, record: BaselineRecord) -> Path:
        """Store one record and return its path.

        Safe against concurrent writers and against being killed at any point.

        Raises:
            BaselineError: it could not be written, with the path and what to do;
                no existing record is touched.
        """
        folder = self.root / record.machine.key
        try:
            content = to_text(record).encode()
        except ValueError as error:
            raise BaselineError(f"{folder}: the session cannot be recorded: {error}") from None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            return publish(folder, _names(record), content)
        except OSError as error:
            raise BaselineError(_write_problem(folder, error)) from None

    def machines(self) -> list[str]:
        """Return the keys of the machines that have a folder, sorted.

        Raises:
            BaselineError: the store's folder is not one, or cannot be read.
        """
        return [path.name for path in _list(self.root) if path.is_dir()]

    def read_machine(self, key: str) -> list[StoredRecord]:
        """Return the records of one machine, oldest first; [] if there are none.

        Raises:
            BaselineError: every bad file of that machine, in one message.
        """
        stored, bad = self._read(key)
        _raise_all(bad)
        return stored

    def check_all(self) -> None:
        """Read every record of every machine.

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

    def _read(self, key: str) -> tuple[list[StoredRecord], list[BaselineError]]:
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


def _names(record: BaselineRecord) -> Iterator[str]:
    """Yield the record's file names, in order of preference."""
    stamp = re.sub(r"[-:]", "", record.recorded)
    commit = record.provenance.commit
    stem = f"{stamp}_{commit[:12] if commit else 'nocommit'}"
    if record.provenance.dirty:
        stem += "-dirty"
    yield f"{stem}.json"
    for number in itertools.count(2):
        yield f"{stem}-{number}.json"


def _age(stored: StoredRecord) -> tuple[str, str, int]:
    """Sort by time, then by the number that tells apart what one second recorded."""
    stem, _, number = stored.path.stem.rpartition("-")
    if stem and number.isdigit():
        return stored.record.recorded, stem, int(number)
    return stored.record.recorded, stored.path.stem, 1


def _list(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted, without hidden names; [] if there is no folder."""
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


def _write_problem(folder: Path, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "make room and record again; nothing was left behind"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "a file is where a folder is needed: remove it, or change perf.baselines"
    else:
        remedy = "make the folder writable, or name another one in perf.baselines"
    return f"{folder}: the session could not be recorded: {reason}\n  {remedy}"


def _raise_all(bad: list[BaselineError]) -> None:
    if len(bad) == 1:
        raise bad[0]
    if bad:
        listed = "\n".join(str(error) for error in bad)
        raise BaselineError(f"{len(bad)} baseline files cannot be used:\n{listed}")
