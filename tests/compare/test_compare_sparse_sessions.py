"""Sessions that hold next to nothing: no test, or counters that read zero."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output
from compare_sessions import CHAT, Project, metrics

from pytest_llmperf.baselines.record import MetricRecord

Compare = Callable[..., Output]


def edit(path: Path, **parts: Any) -> None:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **parts}))


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_newest_session_without_tests_is_no_crash(
    project: Project, llmperf_compare: Compare, form: str
) -> None:
    base, judged = project.record(1), project.record(2)
    edit(judged, tests={})
    result = llmperf_compare(str(base), str(judged), "--format", form)
    assert result.status == 2
    assert "have no test in common" in result.err
    project.record(3, slower=2.0)
    edit(judged, recorded="2026-11-30T12:00:00Z")
    assert CHAT in llmperf_compare(str(base), "perf_baselines", "--format", "json").out


def test_what_the_newest_session_did_not_measure_comes_from_an_older_one(
    project: Project, llmperf_compare: Compare
) -> None:
    again = f"{CHAT}_again"
    base = project.record(1, tests=(CHAT, again))
    project.record(2, tests=(CHAT, again))
    project.record(3, tests=(CHAT,))
    flat = " ".join(llmperf_compare(str(base), "perf_baselines").out.split())
    assert "1 older session of perf_baselines was used for tests that the newest one did" in flat


def busy(*values: float) -> dict[str, MetricRecord]:
    """Return the usual metrics, and the GPU's utilization in each process."""
    return {**metrics(1.0), "gpu_utilization": MetricRecord("%", tuple((v,) for v in values))}


@pytest.mark.parametrize(
    ("now", "verdict"), [((0.0, 0.0, 0.0), "regressed"), ((0.9, 0.9, 0.9), "pass")]
)
def test_a_card_that_is_no_longer_busy_is_regressed(
    project: Project, llmperf_compare: Compare, now: tuple[float, ...], verdict: str
) -> None:
    for day in range(1, 11):
        project.record(day, metrics=busy(0.9, 0.9, 0.9))
    project.commit()
    judged = project.record(11, metrics=busy(*now))
    result = llmperf_compare(
        "HEAD", str(judged), "--metric", "gpu_utilization", "--format", "json", "--tolerance", "20%"
    )
    (test,) = json.loads(result.out)["tests"]
    assert test["verdict"] == verdict
