"""Time of one verdict update: a look at the pairs so far and the decision."""

from __future__ import annotations

import math
import time

import numpy as np
from gate_checks import ALPHA, FIRST, LOG_PASS, MAX, TOLERANCE, ZONE, Settings, decide
from gate_regimes import REGIMES, Floats, differences
from gate_sessions import CHECKS
from gate_tables import Mean, Report

from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.stats.e_process import tabulated
from pytest_llmperf.stats.holm import alarm_levels
from pytest_llmperf.stats.paired import look

LIMIT_MS = 2.0
SEQUENCES = 40
LOG_ALARM = math.log(1.0 / ALPHA)


def update(d: Floats) -> float:
    """Judge one check from scratch, as if no earlier look were remembered; return seconds."""
    began = time.perf_counter()
    looks = [look(d[:n], ZONE) for n in range(FIRST, len(d) + 1)]
    worse = max(float(entry.log_e_worse) for entry in looks)
    fine = max(float(entry.log_e_fine) for entry in looks)
    decide(looks[-1], worse, fine, LOG_ALARM, LOG_PASS, ZONE)
    return time.perf_counter() - began


def update_as_gate(d: Floats) -> float:
    """Judge a session of one check, which remembers its earlier looks; return seconds."""
    candidate = tuple((float(x),) * 3 for x in np.exp(d))
    evidence = Evidence(
        nodeid="t.py::t",
        check=Check(get_metric("end_to_end"), None, TOLERANCE),
        samples=candidate,
        planned_processes=FIRST,
        pairs=Pairs(candidate, ((1.0,) * 3,) * len(candidate), "other.yaml"),
    )
    began = time.perf_counter()
    judge_session([evidence])
    return time.perf_counter() - began


def run(report: Report, settings: Settings) -> None:
    """Print median and 99th percentile, with cold tables and with warm ones."""
    noise = differences(settings.rng(7), REGIMES[2], SEQUENCES, MAX, settings.iterations)
    sizes = range(FIRST, MAX + 1)
    tabulated.cache_clear()
    cold = [update_as_gate(noise[0][:n]) for n in sizes]
    gate = [update_as_gate(d[:n]) for d in noise[1:] for n in sizes]
    again = [update(d[:n]) for d in noise for n in sizes]
    holm = []
    for session in settings.rng(7, 1).normal(2.0, 2.0, (200, CHECKS)):
        began = time.perf_counter()
        alarm_levels(session, ALPHA)
        holm.append((time.perf_counter() - began) / CHECKS)
    report.table(
        f"One verdict update of one check, {FIRST} to {MAX} pairs",
        ("", "median ms", "99th % ms", "largest ms"),
        (
            ("a session, the first time: tables are built", *_shown(cold)),
            ("a session", *_shown(gate)),
            ("all looks again, from the first pair on", *_shown(again)),
            (f"e-Holm over {CHECKS} checks, per check", *_shown(holm)),
        ),
    )
    slowest = Mean(1000.0 * float(np.percentile(gate, 99)), 0.0)
    report.at_most(f"a verdict update: 99% of them within {LIMIT_MS:g} ms", slowest, LIMIT_MS)


def _shown(seconds: list[float]) -> list[str]:
    values = 1000.0 * np.array(seconds)
    return [f"{x:.3f}" for x in (np.median(values), np.percentile(values, 99), values.max())]
