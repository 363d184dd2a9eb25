"""Typed access to the JSON objects of a result file; errors name the field and its value."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pytest_llmperf.baselines.record import TIME_FORMAT
from pytest_llmperf.importers.protocol import FieldUse, LayoutError
from pytest_llmperf.metrics import LARGEST, SMALLEST
from pytest_llmperf.text import printable

_LONGEST = 40
#: Most characters of a name that is taken from a file; longer names are cut.
_LONGEST_NAME = 200
#: Number of elements of a list that the digest of a run covers.
_HASHED = 64
#: Number of other fields that are named; any more are only counted.
_MAX_REST = 12
#: What to do about an impossible value.
FIX_VALUE = "the file is damaged or the run went wrong: run the tool again and import its new file"


class Item:
    """One JSON object of a result file.

    Args:
        data: the object.
        where: its place in the file, such as ``benchmarks[0].``; empty at the top.
        tool: name of the tool, for errors.
    """

    def __init__(self, data: Mapping[str, Any], where: str, tool: str) -> None:
        self.data, self.where, self.tool = data, where, tool

    def has(self, name: str) -> bool:
        """Whether a field is present and not null."""
        return self.data.get(name) is not None

    def number(self, name: str) -> float:
        """Return a required number of 0 or more."""
        value = self.optional_number(name)
        if value is None:
            raise self.missing(name)
        return value

    def optional_number(self, name: str) -> float | None:
        """Return a number of 0 or more; None where the field is absent or null."""
        value = self.data.get(name)
        return None if value is None else self._number(name, value)

    def above_zero(self, name: str) -> float | None:
        """Return a number above 0; None where it is absent, null or 0 (nothing was measured)."""
        value = self.optional_number(name)
        return value or None

    def whole(self, name: str) -> int:
        """Return a required whole number of 0 or more."""
        value = self.number(name)
        if value != int(value):
            raise self.wrong(name, "a whole number of 0 or more", self.data[name])
        return int(value)

    def optional_whole(self, name: str) -> int | None:
        """Return a whole number; None where the field is absent or null."""
        return self.whole(name) if self.has(name) else None

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a required list of numbers of 0 or more."""
        return tuple(
            self._number(f"{name}[{index}]", value) for index, value in enumerate(self.list(name))
        )

    def list(self, name: str) -> list[Any]:
        """Return a required list."""
        value = self.data.get(name)
        if value is None:
            raise self.missing(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        return value

    def text(self, name: str) -> str | None:
        """Return a text; None where the field is absent, null or empty."""
        value = self.data.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.wrong(name, "a text", value)
        return shortened(value)

    def item(self, name: str) -> Item:
        """Return a required object."""
        item = self.optional_item(name)
        if item is None:
            raise self.missing(name)
        return item

    def optional_item(self, name: str) -> Item | None:
        """Return an object; None where the field is absent or null."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        return Item(value, f"{self.where}{name}.", self.tool)

    def items(self, name: str) -> Iterator[Item]:
        """Yield the objects of a required list."""
        yield from objects(self.list(name), f"{self.where}{name}", self.tool)

    def missing(self, name: str) -> LayoutError:
        """Return the error for a field of the tool's layout that this file lacks."""
        return LayoutError(
            f"{self.where}{name} is missing, so this layout of {self.tool}'s file is not supported",
            "write the file with a version named in docs/import.md, or report the new layout",
        )

    def wrong(self, name: str, expected: str, value: object) -> LayoutError:
        """Return the error for a field with an impossible value."""
        shown = repr(value)
        if len(shown) > _LONGEST:
            shown = f"{shown[: _LONGEST - 3]}..."
        return LayoutError(f"{self.where}{name}: expected {expected}, got {shown}", FIX_VALUE)

    def _number(self, name: str, value: object) -> float:
        expected = "a number of 0 or more"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, expected, value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not (number == 0 or SMALLEST <= number <= LARGEST):
            raise self.wrong(name, expected, value)
        return number


def objects(values: Sequence[Any], where: str, tool: str) -> Iterator[Item]:
    """Yield the elements of a list, which must be objects."""
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise Item({}, "", tool).wrong(f"{where}[{index}]", "an object", value)
        yield Item(value, f"{where}[{index}].", tool)


def shortened(text: str) -> str:
    """Return a text from a file as a name: printable, and cut if it is long."""
    name = printable(text)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{digest}"


def model_name(text: str | None) -> str | None:
    """Return a model's name: the last part of a local path, or the whole name on a hub."""
    if text is None:
        return None
    is_path = text.startswith(("/", "~", ".", "\\")) or "\\" in text or text.endswith(".gguf")
    return (text.replace("\\", "/").rstrip("/").rpartition("/")[2] or text) if is_path else text


def digest_of(data: object) -> str:
    """Return the SHA-256 of a run's JSON, regardless of its formatting.

    It covers only the beginning and the length of a long list, such as the values of each request.
    """
    text = json.dumps(_abridged(data), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _abridged(data: object) -> object:
    if isinstance(data, dict):
        return {key: _abridged(value) for key, value in data.items()}
    if isinstance(data, list):
        return [len(data), *map(_abridged, data[:_HASHED])]
    return data


def utc_of(moment: datetime) -> str:
    """Return a time in the format of records; without a time zone it counts as UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc)
    return moment.strftime(TIME_FORMAT)


def time_of(item: Item, name: str, pattern: str = "") -> str | None:
    """Read a time in ISO format, or in the format ``pattern``; None where the field is absent."""
    text = item.text(name)
    if text is None:
        return None
    try:
        if pattern:
            return utc_of(datetime.strptime(text, pattern))
        return utc_of(datetime.fromisoformat(text.replace("Z", "+00:00")))
    except (ValueError, OverflowError):
        raise item.wrong(name, "a date and time", text) from None


def time_of_seconds(item: Item, name: str) -> str | None:
    """Read a time in seconds since 1970; None where the field is absent or 0."""
    seconds = item.above_zero(name)
    try:
        return None if seconds is None else utc_of(datetime.fromtimestamp(seconds, timezone.utc))
    except (ValueError, OverflowError, OSError):
        raise item.wrong(name, "a time in seconds since 1970", seconds) from None


class FieldTable:
    """A table of what became of each field of a file."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str | None], FieldUse] = {}

    def add_used(self, name: str, metric: str, why: str) -> None:
        """Note that a field became a metric."""
        self._uses.setdefault((name, metric), FieldUse(name, metric, why))

    def add_unused(self, name: str, why: str) -> None:
        """Note that a field was left out."""
        self._uses.setdefault((name, None), FieldUse(name, None, why))

    def add_unused_if_present(self, item: Item, names: Sequence[str], why: str) -> None:
        """Note in one line that these fields were left out, as far as the file has them."""
        if present := [name for name in names if item.has(name)]:
            self.add_unused(", ".join(present), why)

    def add_other_fields(self, item: Item, known: Collection[str]) -> None:
        """Note in one line all fields that are neither in the table yet nor ``known``."""
        noted = {name for use in self._uses.values() for name in re.split(r"[^\w.]+", use.field)}
        noted |= {name.partition(".")[0] for name in noted}
        rest = [name for name in map(shortened, item.data) if name not in noted | set(known)]
        if rest:
            more = f" and {len(rest) - _MAX_REST} more" if len(rest) > _MAX_REST else ""
            names = f"{', '.join(rest[:_MAX_REST])}{more}"
            self.add_unused(names, "not a metric here, or unknown to this version")

    def uses(self) -> tuple[FieldUse, ...]:
        """Return all notes, fields that became metrics first."""
        return tuple(sorted(self._uses.values(), key=lambda use: use.metric is None))


class RunMetrics:
    """The metrics of one run, each noted in the table of its file.

    Args:
        table: receives a line for each metric.
    """

    def __init__(self, table: FieldTable) -> None:
        self.table = table
        self.values: dict[str, tuple[float, ...]] = {}

    def add(self, field: str, metric: str, value: float, why: str) -> None:
        """Add a metric, in base units, and note which field it comes from and how."""
        self.values[metric] = (value,)
        self.table.add_used(field, metric, why)
