"""Writes the files of a calibration: beside the baselines, and to ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.baselines.calibrations import model_key, read_calibration, write_calibration
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.json_text import dumps
from pytest_llmperf.baselines.record import now
from pytest_llmperf.calibration.outcome import Calibration, CheckCalibration, SessionRun
from pytest_llmperf.calibration.request import CalibrationRequest
from pytest_llmperf.gate.words import percent
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.tolerances import tolerances_of

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig


def keep(
    request: CalibrationRequest,
    facts: SessionFacts,
    data: dict[str, Any],
    tests: Sequence[RecordedTest],
    perf: PerfConfig,
) -> tuple[list[str], list[str]]:
    """Write the outcome to all requested places; return notes and problems.

    A place that can't be written to does not prevent writing to the other.
    """
    notes: list[str] = []
    problems: list[str] = []
    if request.store:
        folder = facts.store.root / facts.machine.key
        try:
            path = write_calibration(folder, now(), data)
            notes.append(f"stored in {path}")
            if not request.plant:
                notes += _auto_notes(path, tests, perf)
        except BaselineError as error:
            problems.append(str(error))
    if request.json is not None:
        path = Path(request.json)
        try:
            atomic_write(path, dumps(data))
            notes.append(f"written to {path}")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.append(
                f"can't write {path}: {reason}; give --json a file in a folder that can be "
                "written to"
            )
    return notes, problems


def _auto_notes(path: Path, tests: Sequence[RecordedTest], perf: PerfConfig) -> list[str]:
    """Return, for each test, the tolerances that ``auto`` takes from a stored calibration."""
    by_test = tolerances_of(tests, perf, [read_calibration(path)])
    default = " (the default, because no tolerance can be held)"
    notes = []
    for nodeid, tolerances in by_test.items():
        listed = ", ".join(
            f"{get_metric(name).label} {percent(chosen.tolerance)}"
            + ("" if chosen.holds is not None else default)
            for name, chosen in tolerances.items()
        )
        if listed:
            notes.append(f"perf.tolerance: auto now uses: {listed} ({nodeid})")
    return notes


def to_json(
    outcome: Calibration, tests: Sequence[RecordedTest], facts: SessionFacts, perf: PerfConfig
) -> dict[str, Any]:
    """Return the outcome as plain JSON types, including the samples of every pair."""
    by_id = {test.nodeid: test for test in tests}
    elsewhere = outcome.false_alarms_elsewhere
    return {
        "model": model_key(facts.model),
        "model_name": facts.model.name,
        "machine": facts.machine.key,
        "commit": facts.provenance.commit,
        "plugin": facts.provenance.plugin,
        "engine_version": facts.provenance.engine_version,
        "config": facts.config,
        "iterations": perf.iterations,
        "turns": perf.turns,
        "plant": outcome.plant,
        "false_alarms": outcome.alpha,
        "sessions_judged": outcome.alarms.of,
        "sessions_called": outcome.alarms.count,
        "sessions_called_elsewhere": elsewhere.count if elsewhere else None,
        "sessions_unfit": outcome.unfit,
        "void_pairs": sum(run.void for run in outcome.sessions),
        "checks": [_check(check, by_id[check.nodeid]) for check in outcome.checks],
        "stall_rates": [
            {
                "nodeid": stall.nodeid,
                "metric": stall.metric,
                "workload": by_id[stall.nodeid].workload.hash,
                "tolerance": stall.tolerance,
                "candidate": stall.candidate,
                "base": stall.base,
                "called": stall.regressed.count,
                "passed": stall.passed.count,
                "of": stall.regressed.of,
            }
            for stall in outcome.stalls
        ],
        "runs": [_run(run) for run in outcome.sessions],
    }


def _check(check: CheckCalibration, test: RecordedTest) -> dict[str, Any]:
    return {
        "nodeid": check.nodeid,
        "metric": check.metric,
        "workload": test.workload.hash,
        **({"settings": test.identity} if test.cell is not None else {}),
        "level": check.level,
        "tolerance": check.tolerance,
        "within": check.noise.within,
        "between": check.noise.between,
        "pair": check.noise.pair,
        "runs": check.noise.runs,
        "sessions": check.noise.sessions,
        "called": check.regressed.count,
        "passed": check.passed.count,
        "of": check.regressed.of,
        "pairs": check.rows * check.row_size,
        "pairs_per_group": check.row_size,
        "mde": check.mde if check.mde < float("inf") else None,
        "holds": {f"{seconds:g}": tolerance for seconds, tolerance in check.holds.items()},
    }


def _run(run: SessionRun) -> dict[str, Any]:
    return {
        "seconds": run.seconds,
        "pairs": run.pairs,
        "void_pairs": run.void,
        "unfit_because": run.unfit_because,
        "checks": [
            {
                "nodeid": check.nodeid,
                "metric": check.metric,
                "verdict": check.kind.value,
                "effect": check.effect,
                "candidate": check.candidate,
                "base": check.base,
            }
            for check in run.checks
        ],
    }
