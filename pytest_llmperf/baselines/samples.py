"""Baseline samples of one test and metric, collected from the matching records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.baselines.match import belongs_to_cell
from pytest_llmperf.baselines.window import BaselineWindow, window_of
from pytest_llmperf.request_digest import ADVICE, difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.record import Samples, TestRecord
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.request_digest import RequestDigest


@dataclass(frozen=True)
class BaselineSamples:
    """Samples of stored sessions, or of the base side, for one metric of one test.

    Attributes:
        status: whether there are samples to compare with.
        sessions: base units, shape (sessions, processes, iterations), oldest first; if the
            workload changed, those of the old one, which are shown but not compared.
        sources: each session's description for a reader: file, date, commit.
        detail: why there are no samples, in one line; may be empty.
        anchor: samples, as ``sessions``, of the fixed level that slow creeping is measured from;
            they overlap ``sessions`` while there are few.
        anchor_sources: description of each session in ``anchor``.
        records, anchor_records: the stored sessions themselves; empty for the base side.
        skipped_invalid: sessions left out because they are invalid.
    """

    status: Literal["ok", "missing", "workload changed"]
    sessions: tuple[Samples, ...] = ()
    sources: tuple[str, ...] = ()
    detail: str = ""
    anchor: tuple[Samples, ...] = ()
    anchor_sources: tuple[str, ...] = ()
    records: tuple[StoredRecord, ...] = ()
    anchor_records: tuple[StoredRecord, ...] = ()
    skipped_invalid: int = 0

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of each session."""
        return tuple(stored.path for stored in self.records)


def collect_baseline_samples(
    records: Sequence[StoredRecord],
    nodeid: str,
    workload_hash: str,
    metric: str,
    *,
    settings: Mapping[str, Any] | None = None,
    decisions: Sequence[StoredDecision] = (),
    summary: str = "",
    requests: Sequence[RequestDigest] = (),
    name: Callable[[StoredRecord], str] = lambda stored: str(stored.path),
) -> BaselineSamples:
    """Collect the newest ``WINDOW`` valid sessions of the same workload, and the anchor.

    ``records`` are matching ones, oldest first; ``decisions`` those of the machine.
    Sessions of another workload are left out; if there are no others, the workload
    changed. Sessions before the one whose level was accepted last are left out, too.

    The anchor is the session that the latest anchor decision names, or else the oldest
    up to three valid sessions since the acceptance; an acceptance later than the anchor
    decision moves the anchor to the accepted level.

    ``settings`` are those of the test's cell, empty for a test in no sweep: sessions with other
    settings are left out. None accepts any settings.

    ``summary`` and ``requests`` describe the current workload, so that its changes can be named;
    ``name`` describes a session to a reader.
    """
    holding = [stored for stored in records if nodeid in stored.record.tests]
    if not holding:
        detail = "this test is in none of the baselines" if records else ""
        return BaselineSamples("missing", detail=detail)
    if settings is not None:
        others = holding
        holding = [s for s in holding if belongs_to_cell(s.record.tests[nodeid].settings, settings)]
        if not holding:
            return BaselineSamples("missing", detail=_other_settings(others[-1], nodeid))
    if all(stored.record.tests[nodeid].workload != workload_hash for stored in holding):
        changed = _what_changed(holding[-1].record.tests[nodeid], summary, requests)
        return BaselineSamples("workload changed", detail=changed)
    selected = window_of(holding, nodeid, workload_hash, decisions)
    compared, anchor = selected.window(metric), selected.anchor(metric)
    skipped = len(selected.invalid)
    if not compared:
        detail = _why_missing(selected, metric)
        return BaselineSamples("missing", detail=detail, skipped_invalid=skipped)
    return BaselineSamples(
        "ok",
        sessions=_samples(compared, nodeid, metric),
        sources=tuple(map(name, compared)),
        records=compared,
        anchor=_samples(anchor, nodeid, metric),
        anchor_sources=tuple(map(name, anchor)),
        anchor_records=anchor,
        skipped_invalid=skipped,
    )


def _samples(sessions: Sequence[StoredRecord], nodeid: str, metric: str) -> tuple[Samples, ...]:
    return tuple(stored.record.tests[nodeid].metrics[metric].samples for stored in sessions)


def _what_changed(stored: TestRecord, summary: str, requests: Sequence[RequestDigest]) -> str:
    """Describe how a test's workload differs from its newest baseline."""
    change = difference(stored.requests, requests, "the baseline") if stored.requests else ""
    if stored.summary != summary:
        measured = f"the baseline measured {stored.summary}"
        return f"{measured}; {change}" if change else measured
    if change:
        return f"{change}; {ADVICE}"
    return (
        f"the baseline measured other work of the same size ({stored.summary}), and its file does "
        f"not say what differs; {ADVICE}"
    )


def _other_settings(stored: StoredRecord, nodeid: str) -> str:
    """Return the message that a test was only measured with other engine settings."""
    own = stored.record.tests[nodeid].settings
    listed = ", ".join(f"{name}={value}" for name, value in own.items()) or "the session's own"
    return f"this test's baselines were measured with other engine settings ({listed})"


def _why_missing(selected: BaselineWindow, metric: str) -> str:
    if selected.compared:
        return f"{metric} is in none of this test's baselines"
    return f"every stored session of this test is invalid ({len(selected.invalid)})"
