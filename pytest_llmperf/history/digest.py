"""Reduces records to one number per test and metric, thousands of them in a second or two.

Parsing a record of 20 tests and building its objects (``baselines.record``)
takes 2 ms. But records are written in one form (``record.to_text``), and between
one and the next of a machine only the head and the numbers differ. So the text
is cut at the numbers; if what is left was seen before, only head and numbers are
parsed (0.2 ms), and the medians of many records are taken together. The cuts are
first tried where the record before had them. A record that is not in that form,
or is the first of its kind, goes through the strict reader, which also says what
is wrong with a broken one.
"""

from __future__ import annotations

import json
import re
import struct
from array import array
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_llmperf.baselines.metric_record import is_measurable
from pytest_llmperf.baselines.reader import ShapeError
from pytest_llmperf.baselines.record import SCHEMA_VERSION, from_json
from pytest_llmperf.baselines.strict_json import parse, why_not
from pytest_llmperf.history.cuts import Cut, Kind, Shape, cut_as, cut_text, shape_of
from pytest_llmperf.history.sessions import Layout, Row, Sessions, TestPart
from pytest_llmperf.metrics import LARGEST, SMALLEST
from pytest_llmperf.stats.runs import medians_of_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_llmperf.baselines.record import BaselineRecord

#: Records whose medians are taken together: enough to share numpy's overhead, 1 MB of numbers.
_TOGETHER = 64
#: Kinds of records that are known by heart; a history has a handful.
_MOST_KINDS = 64
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def json_loader() -> Callable[[bytes], Any]:
    """Return what parses JSON here: orjson, a third of the time, where it is installed."""
    try:
        import orjson
    except ImportError:
        return json.loads
    loads: Callable[[bytes], Any] = orjson.loads
    return loads


class Measured(NamedTuple):
    """A record's numbers, metric by metric and process by process, 8 bytes each.

    Attributes:
        row: where the record comes from.
        shape: how many numbers it has.
        numbers: they.
        may_be_zero: of each metric, whether zero is one of its values.
    """

    row: Row
    shape: Shape
    numbers: bytes
    may_be_zero: tuple[bool, ...]


class Digester:
    """Takes records' texts and gives ``Sessions``."""

    def __init__(self) -> None:
        self._loads = json_loader()
        self._sessions = Sessions()
        self._layouts: dict[Layout, int] = {}
        # What was seen before, also before the last ``finish``: cut text -> kind, and counts.
        self._kinds: dict[tuple[bytes, ...], Kind] = {}
        self._latest: Kind | None = None
        self._shapes: dict[bytes, Shape] = {}
        self._waiting: list[tuple[Measured, bytes]] = []

    def add(self, source: str, text: bytes | None) -> None:
        """Take one record; one that cannot be used is put down with the reason."""
        if text is None:
            self.bad(source, "its content is not here, or far too long for a record")
            return
        cut = cut_as(text, self._latest) if self._latest is not None else None
        if cut is None:
            cut = cut_text(text)
        try:
            if cut is None or not self._take_known(source, text, cut):
                self._take_strictly(source, text, cut)
        except (ValueError, KeyError, TypeError):
            self._take_strictly(source, text, None)
        if len(self._waiting) >= _TOGETHER:
            self._flush()

    def bad(self, source: str, why: str) -> None:
        """Put down a record that cannot be used."""
        self._sessions.bad[source] = why

    def finish(self) -> Sessions:
        """Return everything taken since the last time."""
        self._flush()
        sessions, self._sessions, self._layouts = self._sessions, Sessions(), {}
        return sessions

    def _take_known(self, source: str, text: bytes, cut: Cut) -> bool:
        """Take a record of a kind that was seen before; False if it was not.

        Raises:
            ValueError, KeyError, TypeError: it is not as a record is.
        """
        kind = self._kinds.get(cut.fixed)
        if kind is None:
            return False
        self._latest = kind
        row = _row(source, self._loads(cut.head), self._index(kind.layout))
        self._waiting.append((self._measured(row, cut, kind.layout), text))
        return True

    def _index(self, layout: Layout) -> int:
        index = self._layouts.get(layout)
        if index is None:
            index = self._layouts[layout] = len(self._sessions.layouts)
            self._sessions.layouts.append(layout)
        return index

    def _measured(self, row: Row, cut: Cut, layout: Layout) -> Measured:
        """Parse the numbers of a record.

        Raises:
            ValueError, TypeError: they are not what a record holds.
        """
        shape = self._shapes.get(cut.shape)
        if shape is None:
            if len(self._shapes) >= _MOST_KINDS:
                self._shapes.clear()
            shape = self._shapes[cut.shape] = shape_of(cut.shape)
        numbers = _packed(sum(shape.iterations), self._loads(cut.flat))
        return Measured(row, shape, numbers, _may_be_zero(layout))

    def _take_strictly(self, source: str, text: bytes, cut: Cut | None) -> None:
        """Take a record as every other reader does, or say what is wrong with it."""
        try:
            record = _strict(parse(text))
        except ValueError as error:
            self.bad(source, why_not(error))
        else:
            measured, layout = self._record(source, record)
            self._waiting.append((measured, text))
            if cut is not None:
                self._learn(cut, measured, layout)

    def _record(self, source: str, record: BaselineRecord) -> tuple[Measured, Layout]:
        layout = tuple(
            TestPart(
                nodeid,
                test.workload,
                test.summary,
                test.invalid,
                test.accepted,
                tuple((name, metric.unit) for name, metric in test.metrics.items()),
            )
            for nodeid, test in record.tests.items()
        )
        made, model = record.provenance, record.model
        row = Row(
            source,
            record.recorded,
            made.commit,
            made.dirty,
            record.machine.key,
            model.name,
            model.sha256,
            self._index(layout),
        )
        samples = [m.samples for test in record.tests.values() for m in test.metrics.values()]
        processes = list(chain.from_iterable(samples))
        shape = Shape(tuple(map(len, samples)), tuple(map(len, processes)))
        numbers = _packed(sum(shape.iterations), chain.from_iterable(processes))
        return Measured(row, shape, numbers, _may_be_zero(layout)), layout

    def _learn(self, cut: Cut, measured: Measured, layout: Layout) -> None:
        """Remember a kind of records, if cutting it gives what the strict reader gave."""
        try:
            same = self._measured(measured.row, cut, layout) == measured
        except (ValueError, TypeError):
            same = False
        if same and len(cut.fixed) > 1 and len(self._kinds) < _MOST_KINDS:
            self._kinds[cut.fixed] = Kind.of(layout, cut.fixed)

    def _flush(self) -> None:
        """Take the medians of the records that wait."""
        waiting, self._waiting = self._waiting, []
        try:
            found = medians([measured for measured, _ in waiting])
        except ValueError:
            self._flush_one_by_one(waiting)
            return
        for (measured, _), values in zip(waiting, found, strict=True):
            self._sessions.rows.append(measured.row)
            self._sessions.values.append(values)

    def _flush_one_by_one(self, waiting: Sequence[tuple[Measured, bytes]]) -> None:
        """Find the record whose numbers are impossible; the strict reader says which one."""
        for measured, text in waiting:
            try:
                (values,) = medians([measured])
            except ValueError as error:
                self.bad(measured.row.source, _refusal(text) or str(error))
            else:
                self._sessions.rows.append(measured.row)
                self._sessions.values.append(values)


def _refusal(text: bytes) -> str:
    """Say why the strict reader refuses a record; empty if it does not."""
    try:
        _strict(parse(text))
    except ValueError as error:
        return why_not(error)
    return ""


@lru_cache(maxsize=_MOST_KINDS)
def _may_be_zero(layout: Layout) -> tuple[bool, ...]:
    names = (name for part in layout for name, _ in part.metrics)
    return tuple(is_measurable(0.0, name) for name in names)


def _packed(count: int, numbers: Iterable[float]) -> bytes:
    """Return so many numbers, 8 bytes each.

    Raises:
        ValueError: there are more, fewer, or others than numbers (numpy would take strings, too).
    """
    try:
        return struct.pack(f"{count}d", *numbers)
    except struct.error as error:
        raise ValueError(str(error)) from None


def _strict(data: Any) -> BaselineRecord:
    """Build the record as every other reader does.

    Raises:
        ShapeError: what is wrong.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ShapeError(f"not a record of a session: schema: got {schema!r}")
    if schema > SCHEMA_VERSION:
        raise ShapeError(
            f"written by a newer plugin (schema {schema}; this one reads up to {SCHEMA_VERSION})\n"
            "upgrade the plugin: pip install --upgrade pytest-llmperf"
        )
    return from_json(data)


def _row(source: str, head: Any, layout: int) -> Row:
    """Read where a record comes from.

    Raises:
        ValueError, KeyError, TypeError: something is not as a record has it.
    """
    made, model = head["provenance"], head["model"]
    recorded, commit, dirty = head["recorded"], made["commit"], made["dirty"]
    key, name, sha256 = head["machine"]["key"], model["name"], model["sha256"]
    fine = (
        head["schema"] == SCHEMA_VERSION
        and _TIME.fullmatch(recorded)
        and (commit is None or _COMMIT.fullmatch(commit))
        and isinstance(dirty, bool)
        and isinstance(key, str)
        and isinstance(name, str)
        and (sha256 is None or isinstance(sha256, str))
    )
    if not fine:
        raise ValueError("not as a record has it")
    return Row(source, recorded, commit, dirty, key, name, sha256, layout)


def medians(records: Sequence[Measured]) -> list[array[float]]:
    """Return per record its metrics' medians over processes of medians over iterations.

    Raises:
        ValueError: a number is none that its metric can have.
    """
    found: list[array[float]] = [array("d")] * len(records)
    alike: dict[tuple[Shape, tuple[bool, ...]], list[int]] = {}
    for index, one in enumerate(records):
        alike.setdefault((one.shape, one.may_be_zero), []).append(index)
    for (shape, may_be_zero), indices in alike.items():
        numbers = b"".join([records[i].numbers for i in indices])
        samples = np.frombuffer(numbers, np.float64).reshape(len(indices), -1)
        if samples.size and not (samples.min() >= SMALLEST and samples.max() <= LARGEST):
            _check_zeros(samples, shape, may_be_zero)
        levels = medians_of_runs(medians_of_runs(samples, shape.iterations), shape.processes)
        for index, level in zip(indices, levels, strict=True):
            found[index] = array("d", level.tobytes())
    return found


def _check_zeros(samples: NDArray[np.float64], shape: Shape, may_be_zero: Sequence[bool]) -> None:
    """Raise ValueError if any number of some records (rows) is none that its metric can have."""
    fine = (samples >= SMALLEST) & (samples <= LARGEST)
    of_metric = np.repeat(may_be_zero, shape.processes)
    fine |= (samples == 0) & np.repeat(of_metric, shape.iterations)
    if not fine.all():
        raise ValueError("samples: a number is none that its metric can have")
