"""Reading and checking one stored file, with errors that name path and remedy."""

from __future__ import annotations

import json
import re
import shlex
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_llmperf.baselines import decisions, record
from pytest_llmperf.baselines.errors import BadRecordError, restore
from pytest_llmperf.baselines.folder import MAX_BYTES
from pytest_llmperf.baselines.json_text import StrictError, parse
from pytest_llmperf.stored_json import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import Decision
    from pytest_llmperf.baselines.record import BaselineRecord

T = TypeVar("T")

# Git conflict markers: no line of a JSON text starts like these.
_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?= |$)", re.MULTILINE)


@dataclass(frozen=True)
class FileKind(Generic[T]):
    """A kind of stored file.

    Attributes:
        noun: name of such a file in messages.
        again: how to make another one if it is lost.
        schema: newest version that this plugin reads.
        build: builds the content from parsed JSON; raises ShapeError.
        named: whether the user names such a file. It may be any file then, so no error
            advises deleting it.
    """

    noun: str
    again: str
    schema: int
    build: Callable[[Any], T]
    named: bool = False

    def remedy(self, path: Path) -> str:
        """Say what to do about a file with unusable content."""
        return self.again if self.named else restore(path, self.again)


RECORD: FileKind[BaselineRecord] = FileKind(
    "a record of a session",
    "record again: pytest -m perf --llmperf-record",
    record.SCHEMA_VERSION,
    record.from_json,
)
DECISION: FileKind[Decision] = FileKind(
    "a decision about a session",
    "decide again: llmperf baseline accept (or anchor)",
    decisions.SCHEMA_VERSION,
    decisions.from_json,
)


def read_record(path: Path) -> BaselineRecord:
    """Read and check one record; raises as ``read_file`` does."""
    return read_file(path, RECORD)


def read_decision(path: Path) -> Decision:
    """Read and check one decision; raises as ``read_file`` does."""
    return read_file(path, DECISION)


def read_file(path: Path, kind: FileKind[T]) -> T:
    """Read and check one stored file.

    Raises:
        BadRecordError: it is unreadable, corrupt, of another shape or of a newer schema.
    """
    data = _parse(path, _read_text(path, kind), kind)
    _check_schema(path, data, kind)
    try:
        return kind.build(data)
    except ShapeError as error:
        raise _bad(path, kind, f"not {kind.noun}: {error}") from None


def _bad(path: Path, kind: FileKind[T], what: str, line: int | None = None) -> BadRecordError:
    """Build the error for a file with unusable content."""
    return BadRecordError(path, what, kind.remedy(path), line)


def _read_text(path: Path, kind: FileKind[T]) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadRecordError(
                path, "a folder where a record file is expected", "rename it or move it away"
            )
        if not stat.S_ISREG(status.st_mode):
            raise BadRecordError(path, "not a regular file", "remove it")
        if status.st_size > MAX_BYTES:
            raise _bad(
                path,
                kind,
                f"{status.st_size >> 20} MiB long; no record is above {MAX_BYTES >> 20} MiB",
            )
        content = path.read_bytes()
    except OSError as error:
        what = "a broken symbolic link" if path.is_symlink() else "cannot be read"
        reason = (error.strerror or str(error)).lower()
        raise BadRecordError(path, f"{what}: {reason}", _access_remedy(path)) from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _bad(path, kind, "not UTF-8 text", line) from None


def _access_remedy(path: Path) -> str:
    if path.is_symlink():
        return "remove the link or restore what it points to"
    return f"make it readable: chmod u+r {shlex.quote(str(path))}"


def _parse(path: Path, text: str, kind: FileKind[T]) -> Any:
    conflict = _CONFLICT.search(text)
    if conflict:
        quoted = shlex.quote(str(path))
        raise BadRecordError(
            path,
            f"holds a merge-conflict marker ({conflict.group()})",
            f"a record is never edited, so either side is right: git checkout --ours -- {quoted} "
            f"(or --theirs), then git add {quoted}",
            text.count("\n", 0, conflict.start()) + 1,
        )
    if not text.strip():
        raise _bad(path, kind, "empty")
    try:
        return parse(text)
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg.lower()} (column {error.colno})"
        raise _bad(path, kind, what, error.lineno) from None
    except StrictError as error:
        line = text.count("\n", 0, text.find(error.token)) + 1 if error.token else None
        raise _bad(path, kind, f"not {kind.noun}: {error}", line) from None


def _check_schema(path: Path, data: Any, kind: FileKind[T]) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise _bad(path, kind, f"not {kind.noun}: schema: got {schema!r}")
    if schema > kind.schema:
        raise BadRecordError(
            path,
            f"written by a newer plugin (schema {schema}; this one reads up to {kind.schema})",
            "upgrade the plugin: pip install --upgrade pytest-llmperf",
        )
