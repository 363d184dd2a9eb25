"""Zero is a valid value of some metrics: it is judged, with neither a crash nor a NaN."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from gate_evidence import NODEID, baseline, evidence, rows
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.calibration.noise import noise_of
from pytest_llmperf.gate.check import Check, Evidence, Pairs, Samples
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.session.result import CheckResult
from pytest_llmperf.stats.summary import summarise

#: A usual value of each metric that may be zero and is judged on the log scale.
USUAL = {
    "gpu_memory": 5.0 * 2**30,
    "energy_per_token": 0.5,
    "gpu_power": 300.0,
    "gpu_utilization": 0.9,
}
ZEROS = rows([0.0] * 8)


def interleaved(metric: str, candidate: Samples, base: Samples, **fields: Any) -> Evidence:
    pairs = Pairs(candidate, base, "other.yaml", 30.0)
    return evidence(metric=metric, samples=candidate, pairs=pairs, **fields)


def better_and_worse(metric: str) -> tuple[Samples, Samples]:
    """Return the samples of zeros and of a usual value, the better ones first."""
    usual = rows([USUAL[metric]] * 8)
    return (usual, ZEROS) if METRICS[metric].limit_kind == "min" else (ZEROS, usual)


def test_the_registry_says_what_may_be_zero() -> None:
    zero = {name for name, metric in METRICS.items() if metric.allows(0.0)}
    assert zero == {*USUAL, "stall_rate", "goodput", "error_rate"}
    assert not any(m.allows(x) for m in METRICS.values() for x in (-1.0, math.nan, math.inf))


@pytest.mark.parametrize("metric", USUAL)
def test_two_sides_of_zeros_are_alike(metric: str) -> None:
    verdict = judge(interleaved(metric, ZEROS, ZEROS))
    assert (verdict.kind.value, verdict.change) == ("pass", 0.0)


@pytest.mark.parametrize("metric", USUAL)
def test_from_zero_and_to_zero_is_judged_by_the_direction(metric: str) -> None:
    better, worse = better_and_worse(metric)
    assert judge(interleaved(metric, worse, better)).kind.value == "regressed"
    assert judge(interleaved(metric, better, worse)).kind.value == "improved"


@pytest.mark.parametrize("metric", USUAL)
def test_what_cannot_be_told_from_zero_is_no_change(metric: str) -> None:
    resolution = METRICS[metric].resolution
    assert resolution is not None
    verdict = judge(interleaved(metric, rows([resolution / 2] * 8), ZEROS))
    assert (verdict.kind.value, verdict.change) == ("pass", 0.0)


@pytest.mark.parametrize("metric", USUAL)
def test_stored_sessions_of_zeros_judge(metric: str) -> None:
    alike = baseline(*[0.0] * 6)
    same = judge(evidence(0.0, 0.0, 0.0, metric=metric, baseline=alike, tolerance=0.2))
    assert same.kind.value == "pass"
    row = CheckResult(evidence(0.0, 0.0, 0.0, metric=metric, baseline=alike))
    assert row.baseline is not None
    assert (row.baseline.value, row.baseline.low, row.baseline.high) == (0.0, 0.0, 0.0)
    other = judge(evidence(*[USUAL[metric]] * 3, metric=metric, baseline=alike))
    grown = METRICS[metric].limit_kind == "min"
    assert other.kind.value == ("improved" if grown else "regressed")


@pytest.mark.parametrize("metric", USUAL)
@pytest.mark.parametrize("part", [1.0, 1e-6])
def test_zero_is_held_to_any_limit(metric: str, part: float) -> None:
    """A limit may lie below the metric's resolution."""
    resolution = METRICS[metric].resolution
    assert resolution is not None
    verdict = judge(evidence(*[0.0] * 8, metric=metric, limit=resolution * part))
    least = METRICS[metric].limit_kind == "min"
    assert verdict.kind.value == ("missed" if least else "no baseline")
    met = [reason.kind.value for reason in verdict.reasons if reason.strategy == "target"]
    assert met == (["missed"] if least else ["pass"])


def test_an_interval_around_zero_holds_it() -> None:
    summary = summarise([[0.0], [0.0], [0.5]], 0.01)
    assert summary.value == summary.low == 0.0
    assert summary.high is not None
    assert summary.high > 0.0
    with pytest.raises(ValueError, match="expected a number above 0"):
        summarise([[0.0]])
    with pytest.raises(ValueError, match="expected a number of 0 or more"):
        summarise([[-1.0]], 0.01)


@pytest.mark.parametrize("metric", USUAL)
def test_the_noise_of_zeros_is_none(metric: str) -> None:
    noise = noise_of(metric, [(ZEROS, ZEROS, None)], [0.0, 0.0])
    assert (noise.between, noise.pair, noise.sessions) == (0.0, 0.0, 0.0)


def finite(verdict: Verdict) -> bool:
    numbers = [verdict.change, *asdict(verdict.proof).values()] if verdict.proof else []
    return all(not isinstance(number, float) or not math.isnan(number) for number in numbers)


values = st.one_of(st.just(0.0), st.floats(min_value=1e-15, max_value=1e18))
processes = st.lists(
    st.lists(values, min_size=1, max_size=3).map(tuple), min_size=1, max_size=7
).map(tuple)


@given(
    metric=st.sampled_from(sorted(USUAL)),
    candidate=processes,
    base=processes,
    sessions=st.lists(processes, max_size=4).map(tuple),
    limit=st.none() | st.floats(min_value=1e-12, max_value=1e12),
    tolerance=st.sampled_from([0.01, 0.05, 0.5]),
)
def test_any_zeros_and_sizes_get_a_verdict_of_numbers(
    metric: str,
    candidate: Samples,
    base: Samples,
    sessions: tuple[Samples, ...],
    limit: float | None,
    tolerance: float,
) -> None:
    count = min(len(candidate), len(base))
    pairs = Pairs(candidate[:count], base[:count], "other.yaml")
    view = baseline(*range(1, len(sessions) + 1))
    view = type(view)("ok", sessions, view.sources, anchor=sessions[:1], anchor_sources=("a",))
    for fields in ({"pairs": pairs}, {"baseline": view} if sessions else {}):
        case = Evidence(
            NODEID, Check(METRICS[metric], limit, tolerance), candidate, 1, ended=True, **fields
        )
        verdict = judge(case)
        assert verdict.kind.value != "error"
        assert finite(verdict)
        assert "nan" not in verdict.explanation.lower()
        row = CheckResult(case, verdict)
        json.dumps(row.change, allow_nan=False)
