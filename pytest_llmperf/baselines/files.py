"""Read one stored file; everything that can be wrong with it is named with path and remedy."""

from __future__ import annotations

import json
import re
import shlex
import stat
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.errors import BadRecordError
from pytest_llmperf.baselines.reader import ShapeError
from pytest_llmperf.baselines.record import SCHEMA_VERSION, BaselineRecord, from_json

if TYPE_CHECKING:
    from pathlib import Path

#: Far above any real record; a file this long is something else.
MAX_BYTES = 64 << 20
# A JSON text has no line that starts like these, whatever its strings hold.
_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?= |$)", re.MULTILINE)


def read_record(path: Path) -> BaselineRecord:
    """Read and check one record.

    Raises:
        BadRecordError: it is unreadable, corrupt, of another shape or of a newer schema.
    """
    data = _parse(path, _read_text(path))
    _check_schema(path, data)
    try:
        return from_json(data)
    except ShapeError as error:
        raise BadRecordError(path, f"not a record of a session: {error}") from None


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadRecordError(
                path, "a folder where a record file is expected", "rename it or move it away"
            )
        if not stat.S_ISREG(status.st_mode):
            raise BadRecordError(path, "not a regular file", "remove it")
        if status.st_size > MAX_BYTES:
            raise BadRecordError(
                path, f"{status.st_size >> 20} MiB long; no record is above {MAX_BYTES >> 20} MiB"
            )
        content = path.read_bytes()
    except OSError as error:
        what = "a link that leads nowhere" if path.is_symlink() else "cannot be read"
        reason = (error.strerror or str(error)).lower()
        raise BadRecordError(path, f"{what}: {reason}", _access_remedy(path)) from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadRecordError(path, "not UTF-8 text", line=line) from None


def _access_remedy(path: Path) -> str:
    if path.is_symlink():
        return "remove the link or restore what it points to"
    return f"make it readable: chmod u+r {shlex.quote(str(path))}"


def _parse(path: Path, text: str) -> Any:
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
        raise BadRecordError(path, "empty")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg.lower()} (column {error.colno})"
        raise BadRecordError(path, what, line=error.lineno) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRecordError(path, f"not a record of a session: {reason}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that can be compared")


def _check_schema(path: Path, data: Any) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BadRecordError(path, f"not a record of a session: schema: got {schema!r}")
    if schema > SCHEMA_VERSION:
        raise BadRecordError(
            path,
            f"written by a newer plugin (schema {schema}; this one reads up to {SCHEMA_VERSION})",
            "upgrade the plugin: pip install --upgrade pytest-llmperf",
        )
