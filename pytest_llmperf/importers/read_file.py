"""Reads a result file of limited size: one JSON document, or one per line."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.json_text import repeated_key
from pytest_llmperf.importers.items import utc_of
from pytest_llmperf.importers.protocol import LayoutError

if TYPE_CHECKING:
    from pathlib import Path

#: Size limit in bytes; a run of 100,000 requests with all their gaps is below it.
MAX_BYTES = 256 << 20
#: Texts and per-request objects that no importer uses: dropped while parsing, because they take
#: most of the memory, and because prompts and answers are private.
_DROPPED_KEYS = frozenset({"generated_texts", "request_args", "response_args", "output", "errors"})
_DROPPED_TYPES = frozenset({"generative_request_stats", "generative_text_response"})
_AGAIN = "run the tool again and import its new file"


@dataclass(frozen=True)
class ResultFile:
    """A parsed result file.

    Attributes:
        sha256: of the content.
        documents: the JSON document, or one for each line.
        modified: when it was last written, in the format of records.
    """

    sha256: str
    documents: tuple[Any, ...]
    modified: str


def read_result_file(path: Path) -> ResultFile:
    """Read and parse a result file.

    Raises:
        LayoutError: it can't be read, is empty, is too long, or is not JSON.
    """
    content, modified = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    if not content.strip():
        raise LayoutError("the file is empty", _AGAIN)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LayoutError(
            "not UTF-8 text, so not JSON", "name the JSON file that the tool wrote"
        ) from None
    del content
    return ResultFile(digest, _documents(text), modified)


def _content(path: Path) -> tuple[bytes, str]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise LayoutError(f"{what}; a result file is expected", "name the tool's file")
        if status.st_size > MAX_BYTES:
            raise LayoutError(
                f"{status.st_size >> 20} MiB long; up to {MAX_BYTES >> 20} MiB are read",
                "write it without the data of each request (vLLM: without --save-detailed; "
                "SGLang: without --output-details), or split it",
            )
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LayoutError(
            f"can't be read: {reason}", "check the name, and that this user may read it"
        ) from None
    except ValueError as error:  # a name that no file can have
        raise LayoutError(f"can't be read: {error}", "check the name") from None
    return content, utc_of(datetime.fromtimestamp(status.st_mtime, timezone.utc))


def _documents(text: str) -> tuple[Any, ...]:
    """Parse one document, or one for each line."""
    try:
        return (_parse(text),)
    except json.JSONDecodeError as error:
        # Several documents: the first one ended well, and something follows it.
        if error.msg != "Extra data" or not _is_document(text.lstrip().partition("\n")[0]):
            raise _not_json(error, error.lineno) from None
    documents = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                documents.append(_parse(line))
            except json.JSONDecodeError as error:
                raise _not_json(error, number) from None
    return tuple(documents)


def _is_document(line: str) -> bool:
    try:
        _parse(line)
    except json.JSONDecodeError:
        return False
    return True


def _not_json(error: json.JSONDecodeError, line: int) -> LayoutError:
    where = f"line {line}, column {error.colno}"
    if error.msg.startswith("Unterminated string") or not error.doc[error.pos :].strip():
        return LayoutError(f"truncated: the JSON ends in the middle of a value ({where})", _AGAIN)
    return LayoutError(
        f"not JSON: {error.msg.lower()} ({where})", "name the JSON file that the tool wrote"
    )


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise LayoutError("nested too deeply for a result", _AGAIN) from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # a whole number of thousands of digits
        raise LayoutError("a number in it has thousands of digits", _AGAIN) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise LayoutError(f"the key {repeated_key(pairs)} appears twice in one object", _AGAIN)
    kind = result.get("type_")
    if isinstance(kind, str) and kind in _DROPPED_TYPES:
        return None
    for key in _DROPPED_KEYS & result.keys():
        if isinstance(result[key], str | list):
            del result[key]
    return result
