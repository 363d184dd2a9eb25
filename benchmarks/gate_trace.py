"""The gate on a recorded trace of real engine processes, resampled, with planted slowdowns.

A trace is a JSON file: {"machine": ..., "metrics": {name: [[iterations of a process]...]}},
as ``make_trace.py`` writes it. A repetition takes whole processes, in blocks of
consecutive ones, so that what drifted keeps drifting; all metrics come from the same
processes. Planting multiplies what the candidate's processes measured.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from gate_checks import ALPHA, HEAD, MAX, Ruling, Settings, judge, row
from gate_regimes import BLOCK, Floats, blocks
from gate_sessions import CHECKS
from gate_tables import Report

from pytest_llmperf.metrics import Direction, get_metric

DEFAULT = Path(__file__).parent / "data" / "gate_trace.json"
EFFECTS = (0.0, 0.01, 0.025, 0.05, 0.075, 0.10)
#: Fewest processes that are worth resampling in blocks.
MIN_PROCESSES = 20


class TraceError(Exception):
    """A trace that can't be used; the message says why and what to do."""


def read_trace(path: Path) -> tuple[str, dict[str, Floats]]:
    """Return the machine, and each metric's logarithms (higher is worse), (processes, iterations).

    Raises:
        TraceError: no such file, not a trace, or too few processes.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        metrics = {
            name: np.array(rows, dtype=np.float64) for name, rows in document["metrics"].items()
        }
    except FileNotFoundError:
        raise TraceError(
            f"{path}: no such file; make one: benchmarks/make_trace.py says how"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise TraceError(f"{path}: not a trace ({problem}); record another one") from None
    for name, rows in metrics.items():
        if rows.ndim != 2 or not (np.isfinite(rows) & (rows > 0.0)).all():
            raise TraceError(f"{path}: {name}: expected processes of equally many numbers above 0")
        if len(rows) < MIN_PROCESSES:
            raise TraceError(
                f"{path}: {name}: {len(rows)} processes, at least {MIN_PROCESSES} needed"
            )
    logs = {
        name: np.log(rows) * (-1.0 if get_metric(name).direction is Direction.HIGHER else 1.0)
        for name, rows in metrics.items()
    }
    return str(document.get("machine", "an unnamed machine")), logs


def resampled(rng: np.random.Generator, processes: int, repetitions: int) -> np.ndarray:
    """Return process numbers in time order, (repetitions, 2 * MAX): blocks of four in a row."""
    starts = rng.integers(0, processes - BLOCK + 1, (repetitions, 2 * MAX // BLOCK, 1))
    return (starts + np.arange(BLOCK)).reshape(repetitions, 2 * MAX)


def run(report: Report, settings: Settings, path: Path = DEFAULT) -> None:
    """Print the table of one check per metric, alone and at the first threshold of 60.

    Raises:
        TraceError: as ``read_trace``.
    """
    machine, metrics = read_trace(path)
    levels = {
        name: np.median(rows[:, : settings.iterations], axis=1) for name, rows in metrics.items()
    }
    _noise(report, machine, metrics)
    rng = settings.rng(6)
    processes = min(len(level) for level in levels.values())
    picked = resampled(rng, processes, settings.repetitions)
    candidate = blocks(rng, settings.repetitions, MAX)
    for checks in (1, CHECKS):
        rows = []
        for name, level in levels.items():
            pairs = level[picked].reshape(settings.repetitions, MAX, 2)
            later = pairs[..., 1] - pairs[..., 0]
            noise = np.where(candidate[..., 1], later, -later)
            for effect in EFFECTS:
                outcomes = judge(noise + math.log1p(effect), log_alarm=math.log(checks / ALPHA))
                rows.append(row(name if effect == 0.0 else "", effect, outcomes))
                if effect <= 0.01 and checks == 1:
                    what = f"trace, one check, {name}, {effect:.0%} slower: false alarm <= 1%"
                    report.at_most(what, outcomes.rate(Ruling.WORSE), ALPHA)
        report.table(
            f"Resampled trace, one check of {checks}: {settings.repetitions} repetitions, blocks "
            f"of {BLOCK} processes in a row",
            ("metric", *HEAD[1:]),
            rows,
        )


def _noise(report: Report, machine: str, metrics: dict[str, Floats]) -> None:
    rows = []
    for name, logs in metrics.items():
        middle = np.median(logs, axis=1)
        within = np.sqrt(np.mean(np.var(logs, axis=1, ddof=1)))
        robust = 1.4826 * np.median(np.abs(logs - middle[:, None]))
        between = np.std(middle, ddof=1)
        successive = np.sqrt(np.sum(np.diff(middle) ** 2) / (2 * (len(middle) - 1)))
        rows.append(
            (
                name,
                f"{logs.shape[0]} x {logs.shape[1]}",
                *(f"{100 * x:.2f}" for x in (within, robust, between, successive)),
            )
        )
    report.table(
        f"The trace: {machine}",
        ("metric", "processes", "within sd %", "robust %", "between sd %", "successive sd %"),
        rows,
    )
