"""The result of an import as text: the use made of each field, and the new sessions."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import count
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.text import columns, printable, wrap_node_id, wrap_words
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.baselines.record import TestRecord
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.importers.protocol import FieldUse
    from pytest_llmperf.importers.run import ImportedFile, ImportResult

_UNIT = (
    "a run is one sample of each metric, however many requests it made; sessions of other tools "
    "are compared with each other, and never judge a test"
)


def import_lines(result: ImportResult, width: int) -> list[str]:
    """Return the result of an import as lines."""
    lines: list[str] = []
    shown: set[tuple[FieldUse, ...]] = set()
    for file in result.files:
        lines += _file(file, width, file.fields in shown)
        shown.add(file.fields)
    for session in result.sessions:
        lines += ["", *_session(session, result.stored, width)]
    if not result.sessions and not result.refused:
        lines += ["", "nothing is new, so nothing was stored"]
    elif result.sessions:
        lines += ["", *wrap_words(_UNIT, width)]
    return lines


def _file(file: ImportedFile, width: int, is_shown: bool) -> Iterator[str]:
    yield from wrap_words(f"{file.source}: {file.tool}, {count(file.runs, 'run')}", width)
    if file.known:
        which = "all" if len(file.known) == file.runs else f"{len(file.known)} of {file.runs}"
        where = ", ".join(dict.fromkeys(file.known))
        yield from wrap_words(f"{which} imported before, in {where}", width, "    ", "  ")
    if is_shown:
        yield "  its fields: as above"
        return
    for use in file.fields:
        became = use.metric or "left out"
        yield from wrap_words(f"{use.field} -> {became}: {use.why}", width, "      ", "  ")
    for note in file.notes:
        yield from wrap_words(note, width, "      ", "  note: ")


def _session(session: StoredRecord, stored: bool, width: int) -> Iterator[str]:
    record = session.record
    status = "stored" if stored else "not stored; it would be in"
    yield from wrap_words(f"{status} {session.path}", width)
    facts = ", ".join(f"{name} {value}" for name, value in record.machine.strict.items())
    yield from wrap_words(f"machine: {facts}", width, "    ", "  ")
    yield f"  model: {printable(record.model.name)}; recorded {record.recorded}"
    if record.imported is not None:
        for note in record.imported.notes:
            yield from wrap_words(note, width, "      ", "  note: ")
    for name, test in record.tests.items():
        yield from _test(name, test, width)


def _test(name: str, test: TestRecord, width: int) -> Iterator[str]:
    yield from (f"  {line}" for line in wrap_node_id(name, width - 2))
    yield from wrap_words(test.summary, width, "      ", "    ")
    for reason in test.invalid:
        yield from wrap_words(f"can't be used as a baseline: {reason}", width, "      ", "    ")
    rows = []
    for metric_name, stored in test.metrics.items():
        metric = get_metric(metric_name)
        value = median(median(run) for run in stored.samples)
        samples = count(len(stored.samples), "sample")
        rows.append((metric.label, format_quantity(value, metric.unit), samples))
    yield from (f"    {line}" for line in columns(rows)) if rows else ()
