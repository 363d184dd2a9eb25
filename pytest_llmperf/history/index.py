"""The index: a cache of the levels of records read before, by git object.

One SQLite file in the cache folder serves all repositories. SQLite keeps it consistent when
commands run concurrently or are killed. A problem with the file only costs reading records again:
each row has a checksum, and a damaged file is replaced.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from contextlib import closing, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pytest_llmperf.history.levels import SessionLevels, TestLevels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

#: Incremented whenever records are read, computed or refused in a different way.
VERSION = 1
#: Larger files are replaced; this is enough for 200,000 records of twenty tests.
MAX_BYTES = 256 << 20
#: Marks the file as ours ("lpHi").
_APPLICATION = 0x6C704869
#: Seconds to wait for another command to finish writing.
_PATIENCE_SECONDS = 5.0
#: Objects per query; every SQLite accepts 999.
_AT_ONCE = 900
_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS tests (hash TEXT PRIMARY KEY, parts TEXT);
CREATE TABLE IF NOT EXISTS records (
    blob TEXT PRIMARY KEY, about TEXT, tests TEXT, level BLOB, checksum INTEGER
);
COMMIT;
"""


class LevelIndex:
    """The cached levels of records read before.

    Attributes:
        file: the SQLite file.
        problem: why the file cannot be used, else empty.
        damage: why the file was replaced, else empty.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "index.sqlite3"
        self.problem = self.damage = ""

    def read(self, blobs: Sequence[str]) -> dict[str, SessionLevels]:
        """Return the cached levels of these objects."""
        try:
            if not self.file.exists():
                return {}
            with closing(self._open()) as database:
                return dict(_rows(database, blobs))
        except (OSError, sqlite3.OperationalError) as error:  # not accessible, locked for too long
            self.problem = str(error)
        except sqlite3.DatabaseError as error:
            self._start_again(str(error))
        except (TypeError, AttributeError):  # a column of another type
            self._start_again("a row is damaged")
        return {}

    def add(self, levels: Mapping[str, SessionLevels]) -> None:
        """Store the levels of these objects, if possible."""
        if self.problem:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if self.file.exists() and self.file.stat().st_size > MAX_BYTES:
                self._remove()
            with closing(self._open()) as database:
                _write(database, levels)
        except (OSError, sqlite3.OperationalError) as error:
            self.problem = str(error)
        except sqlite3.DatabaseError as error:
            self._start_again(str(error))

    def _open(self) -> sqlite3.Connection:
        """Open the file, or create it.

        Raises:
            sqlite3.OperationalError: it cannot be accessed.
            sqlite3.DatabaseError: it is damaged, of another version, or somebody else's.
        """
        database = sqlite3.connect(self.file, timeout=_PATIENCE_SECONDS, isolation_level=None)
        try:
            # Damaged text is then detected by its checksum.
            database.text_factory = lambda text: text.decode(errors="replace")
            if not _number(database, "SELECT count(*) FROM sqlite_master"):
                database.executescript(_SCHEMA)
            elif _number(database, "PRAGMA application_id") != _APPLICATION:
                raise sqlite3.DatabaseError("it is not an index")
            elif _number(database, "PRAGMA user_version") != VERSION:
                raise sqlite3.DatabaseError("another version of the plugin wrote it")
        except BaseException:
            database.close()
            raise
        return database

    def _start_again(self, why: str) -> None:
        """Remove the file, so that the next writer creates a new one."""
        self.damage = why
        self._remove()

    def _remove(self) -> None:
        # The journal first: it would be applied to a new file of that name.
        for end in ("-journal", ""):
            with suppress(OSError):
                self.file.with_name(self.file.name + end).unlink()


def _number(database: sqlite3.Connection, question: str) -> int:
    number: int = database.execute(question).fetchone()[0]
    return number


def _rows(
    database: sqlite3.Connection, blobs: Sequence[str]
) -> Iterator[tuple[str, SessionLevels]]:
    database.execute("BEGIN")
    stored = database.execute("SELECT hash, parts FROM tests")
    tests = {key: _tests(text) for key, text in stored if key == _hash(text)}
    for start in range(0, len(blobs), _AT_ONCE):
        batch = blobs[start : start + _AT_ONCE]
        query = f"SELECT * FROM records WHERE blob IN ({','.join('?' * len(batch))})"
        for blob, about, key, level, checksum in database.execute(query, batch):
            if key in tests and checksum == _checksum(blob, about, key, level):
                facts: tuple[Any, ...] = (*json.loads(about), tests[key], array("d", level))
                yield blob, SessionLevels(*facts)


def _write(database: sqlite3.Connection, levels: Mapping[str, SessionLevels]) -> None:
    keys: dict[tuple[TestLevels, ...], str] = {}
    rows = []
    for blob, session in levels.items():
        if session.tests not in keys:
            keys[session.tests] = _hash(_text(session.tests))
        row = (blob, _text(session[:-2]), keys[session.tests], session.values.tobytes())
        rows.append((*row, _checksum(*row)))
    database.execute("BEGIN IMMEDIATE")
    tests = [(key, _text(parts)) for parts, key in keys.items()]
    database.executemany("INSERT OR REPLACE INTO tests VALUES (?, ?)", tests)
    database.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", rows)
    database.execute("COMMIT")


def _text(items: Sequence[object]) -> str:
    """Return JSON in ASCII, which preserves lone surrogates in names."""
    return json.dumps(items, separators=(",", ":"))


def _tests(text: str) -> tuple[TestLevels, ...]:
    return tuple(
        TestLevels(nodeid, workload, summary, invalid, accepted, tuple(map(tuple, metrics)))
        for nodeid, workload, summary, invalid, accepted, metrics in json.loads(text)
    )


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _checksum(blob: str, about: str, tests: str, level: bytes) -> int:
    # Includes the byte order, to refuse numbers written by another kind of machine.
    return crc32(f"{sys.byteorder}{blob}{about}{tests}".encode() + level)
