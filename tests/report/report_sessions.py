"""Builds sessions for the report's tests: real evidence, judged by the real gate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.check import BaselineView, Check, Evidence
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.model import MetricRow, SessionView, TestReportView, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = "perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json"


def row(
    metric: str,
    *medians: float,
    limit: float | None = None,
    baseline: Sequence[float] | None = None,
    gated: bool = True,
    nodeid: str = "test_x.py::test_x",
    **fields: Any,
) -> MetricRow:
    """A row of one median per process, against a baseline of one median per session."""
    view = BaselineView("missing")
    if baseline is not None:
        view = BaselineView("ok", tuple(((v,), (v,), (v,)) for v in baseline), (SOURCE,))
    fields.setdefault("baseline", view)
    fields.setdefault("planned_processes", 3)
    evidence = Evidence(
        nodeid,
        Check(get_metric(metric), limit, 0.05, gated),
        tuple((median,) * 3 for median in medians),
        **fields,
    )
    return row_of(evidence, judge(evidence) if gated else None)


def short_answer(slower: float = 1.0, **fields: Any) -> TestReportView:
    """A test of four metrics, all of them ``slower`` times slower than their baseline."""
    f = slower
    return TestReportView(
        "tests/perf/test_chat.py::test_short_answer",
        (
            row("tokens_per_sec", 84.9 / f, 84.1 / f, 85.6 / f, limit=60.0, baseline=[85.2, 84.6]),
            row("prefill_tokens_per_sec", 301, 300, 302, baseline=[300, 301], gated=False),
            row("first_token", 0.412 * f, 0.411 * f, 0.415 * f, limit=0.5, baseline=[0.41, 0.42]),
            row("end_to_end", 1.84 * f, 1.83 * f, 1.85 * f, limit=5.0, baseline=[1.84, 1.86]),
        ),
        workload="1 request, 38 tokens in, 64 out",
        workload_hash="sha256:ab12",
        **fields,
    )


def new_test() -> TestReportView:
    """A test that no baseline holds yet."""
    return TestReportView(
        "tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]",
        (
            row("tokens_per_sec", 84.9, 84.1, 85.6, limit=60.0),
            row("prefill_tokens_per_sec", 301, 300, 302, gated=False),
            row("first_token", 0.412, 0.411, 0.415),
        ),
        workload="2 requests, 1,400 tokens in, 64 out",
        workload_hash="sha256:cd34",
    )


def session(*tests: TestReportView, **fields: Any) -> SessionView:
    """A session of these tests on a machine with a GPU."""
    plain = SessionView(
        machine_key="1x-rtx-4090-24gib_cuda",
        model="SmolLM2-135M-Instruct Q4_1",
        engine="llama_cpp 0.3.36",
        processes=3,
        iterations=3,
        seed=7,
        tests=tests,
        wall_s=58.0,
        generation_s=52.2,
        recording_generation_s=3.9,
    )
    return replace(plain, **fields)
