"""What is kept of each stored session: one number per test and metric, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from array import array


class TestPart(NamedTuple):
    """One test of a session.

    Attributes:
        nodeid, workload, summary: as recorded.
        invalid: why its numbers may not judge; empty when they may.
        accepted: why its level was accepted in the record itself, or None.
        metrics: (name, unit) of each, in the order of the values.
    """

    nodeid: str
    workload: str
    summary: str
    invalid: tuple[str, ...]
    accepted: str | None
    metrics: tuple[tuple[str, str], ...]


#: What a session measured, test by test; most sessions of a machine share one.
Layout = tuple[TestPart, ...]


class Row(NamedTuple):
    """One session.

    Attributes:
        source: the blob, or the path of an uncommitted file.
        recorded: UTC, as ``2026-11-22T23:59:26Z``.
        commit, dirty: what was measured.
        machine: its key.
        model, sha256: the model's name and the hash of its file.
        layout: index into the layouts.
    """

    source: str
    recorded: str
    commit: str | None
    dirty: bool
    machine: str
    model: str
    sha256: str | None
    layout: int


@dataclass
class Sessions:
    """Many sessions.

    Attributes:
        layouts: those that the rows use.
        rows: the sessions.
        values: per row the medians (over processes of each one's median over iterations), in
            the layout's order and the metrics' base units.
        bad: source -> why that record cannot be used.
    """

    layouts: list[Layout] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    values: list[array[float]] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    def extend(self, others: Sessions) -> None:
        """Add other sessions, sharing layouts that are equal."""
        known = {layout: index for index, layout in enumerate(self.layouts)}
        new = []
        for layout in others.layouts:
            if layout not in known:
                known[layout] = len(self.layouts)
                self.layouts.append(layout)
            new.append(known[layout])
        self.rows.extend(row._replace(layout=new[row.layout]) for row in others.rows)
        self.values.extend(others.values)
        self.bad.update(others.bad)

    def only(self, sources: set[str]) -> Sessions:
        """Return those of the named sources."""
        kept = [i for i, row in enumerate(self.rows) if row.source in sources]
        used = sorted({self.rows[i].layout for i in kept})
        place = {layout: number for number, layout in enumerate(used)}
        return Sessions(
            [self.layouts[layout] for layout in used],
            [self.rows[i]._replace(layout=place[self.rows[i].layout]) for i in kept],
            [self.values[i] for i in kept],
            {source: why for source, why in self.bad.items() if source in sources},
        )


def to_bytes(sessions: Sessions) -> bytes:
    """Pack sessions: a line of JSON, then every value as an 8-byte float of this machine."""
    head = {"layouts": sessions.layouts, "rows": sessions.rows, "bad": sessions.bad}
    # ASCII JSON keeps lone surrogates (of names that are no UTF-8) as escapes.
    line = json.dumps(head, separators=(",", ":")).encode("ascii")
    return b"".join((line, b"\n", *(value.tobytes() for value in sessions.values)))


def from_bytes(packed: bytes) -> Sessions:
    """Unpack ``to_bytes``.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is not that.
    """
    from array import array

    end = packed.index(b"\n")
    head = json.loads(packed[:end])
    layouts: list[Layout] = [
        tuple(
            TestPart(name, work, words, tuple(bad), said, tuple((m, u) for m, u in metrics))
            for name, work, words, bad, said, metrics in layout
        )
        for layout in head["layouts"]
    ]
    rows = [Row(*row) for row in head["rows"]]
    counts = [8 * sum(len(part.metrics) for part in layout) for layout in layouts]
    values, position = [], end + 1
    for row in rows:
        value = array("d")
        value.frombytes(packed[position : position + counts[row.layout]])
        position += counts[row.layout]
        values.append(value)
    if position != len(packed):
        raise ValueError("its length is not that of its sessions")
    return Sessions(layouts, rows, values, dict(head["bad"]))
