"""The JSON that ``llmperf baseline show --json`` prints.

    {schema, folder, tolerance, false_alarms, machines: [{key, sessions: [{file, recorded,
     provenance, model}], decisions: [{file, kind, decided, session, tests, reason, commit}],
     tests: [{nodeid, model, workload, summary, window [file], anchor [file], anchoring,
              accepted, before_accepted [file], other_work [file], invalid [{file, reasons}],
              metrics: {name: {unit, sessions, level, spread, drift, found_from, passes_to}}}]}]}

Values are in base units, shares as fractions; ``anchoring`` and ``accepted`` are null or
{session, when, reason, said_in}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmperf.baselines.choice import BaselineFolder
    from pytest_llmperf.baselines.overview import MetricOverview, TestOverview
    from pytest_llmperf.baselines.store import Shelf, StoredRecord
    from pytest_llmperf.baselines.window import Choice

SCHEMA_VERSION = 1


def baseline_json(
    folder: BaselineFolder,
    shelves: Mapping[str, Shelf],
    looks: Mapping[str, Sequence[TestOverview]],
) -> dict[str, Any]:
    """Return plain JSON of every machine's folder."""
    return {
        "schema": SCHEMA_VERSION,
        "folder": str(folder.store.root),
        "tolerance": folder.tolerance,
        "false_alarms": folder.false_alarms,
        "machines": [
            {
                "key": key,
                "sessions": [_session(stored) for stored in shelf.records],
                "decisions": [
                    {"file": stored.path.name, **vars(stored.decision)}
                    for stored in shelf.decisions
                ],
                "tests": [_test(look) for look in looks[key]],
            }
            for key, shelf in shelves.items()
        ],
    }


def _session(stored: StoredRecord) -> dict[str, Any]:
    record = stored.record
    return {
        "file": stored.path.name,
        "recorded": record.recorded,
        "provenance": dict(vars(record.provenance)),
        "model": dict(vars(record.model)),
    }


def _test(look: TestOverview) -> dict[str, Any]:
    sessions = look.sessions
    return {
        "nodeid": look.nodeid,
        "model": look.model.name,
        "workload": look.workload,
        "summary": look.summary,
        "window": _files(look.window),
        "anchor": _files(look.anchor),
        "anchoring": _choice(sessions.anchoring),
        "accepted": _choice(sessions.acceptance),
        "before_accepted": _files(sessions.history),
        "other_work": _files(look.other_work),
        "invalid": [
            {"file": s.path.name, "reasons": list(s.record.tests[look.nodeid].invalid)}
            for s in sessions.invalid
        ],
        "metrics": {line.name: _metric(line) for line in look.metrics},
    }


def _metric(line: MetricOverview) -> dict[str, Any]:
    return {
        "unit": line.unit,
        "sessions": line.sessions,
        "level": line.level,
        "spread": line.spread,
        "drift": line.drift,
        "found_from": line.found_from,
        "passes_to": line.passes_to,
    }


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    return {
        "session": choice.session.path.name,
        "when": choice.moment.isoformat().replace("+00:00", "Z"),
        "reason": choice.reason,
        "said_in": choice.path.name,
    }


def _files(sessions: Iterable[StoredRecord]) -> list[str]:
    return [stored.path.name for stored in sessions]
