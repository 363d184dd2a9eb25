"""Builds sessions for the report's tests: real evidence, judged by the real gate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.samples import BaselineSamples
from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.table import render_table
from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = "perf_baselines/1x-rtx-4090-24gib_cuda"
SOURCE = f"{FOLDER}/20261101T101500Z_628fedd01234.json"


def row(
    metric: str,
    *medians: float,
    limit: float | None = None,
    baseline: Sequence[float] | None = None,
    base: Sequence[float] | None = None,
    gated: bool = True,
    nodeid: str = "test_x.py::test_x",
    tolerance: float = 0.05,
    **fields: Any,
) -> CheckResult:
    """Return a check with one median per process, compared with stored sessions or with pairs."""
    view = BaselineSamples("missing")
    if baseline is not None:
        sources = (SOURCE, *(f"{FOLDER}/202611{n:02}T101500Z_abc.json" for n in range(2, 31)))
        stored = tuple(((v,), (v,), (v,)) for v in baseline)
        view = BaselineSamples("ok", stored, sources[: len(stored)])
    samples = tuple((median,) * 3 for median in medians)
    if base is not None:
        fields["pairs"] = Pairs(samples, tuple((v,) * 3 for v in base), "other.yaml", 12.0)
    fields.setdefault("baseline", None if base is not None else view)
    fields.setdefault("planned_processes", 3)
    fields.setdefault("ended", True)
    evidence = Evidence(
        nodeid, Check(get_metric(metric), limit, tolerance, gated), samples, **fields
    )
    return CheckResult(evidence, judge(evidence) if gated else None)


def short_answer(slower: float = 1.0, sessions: int = 10, **fields: Any) -> TestResult:
    """Return a test of four metrics, all but prefill slower than the baseline by this factor."""
    f, n = slower, sessions
    rates, prefills = ([85.2, 84.6] * n)[:n], ([300, 301] * n)[:n]
    firsts, ends = ([0.41, 0.42] * n)[:n], ([1.84, 1.86] * n)[:n]
    tokens, times = (84.9, 84.1, 85.6, 84.9, 85.2), (0.412, 0.411, 0.415, 0.413, 0.412)
    rows = (
        row("tokens_per_sec", *(v / f for v in tokens), limit=60.0, baseline=rates),
        row("prefill_tokens_per_sec", 301, 300, 302, 301, 301, baseline=prefills, gated=False),
        row("first_token", *(v * f for v in times), limit=0.5, baseline=firsts),
        row("end_to_end", *(v * f for v in (1.84, 1.83, 1.85, 1.84, 1.84)), baseline=ends),
    )
    fields.setdefault("processes", 5)
    return TestResult(
        "tests/perf/test_chat.py::test_short_answer",
        rows,
        workload="1 request, 38 tokens in, 64 out",
        workload_hash="sha256:ab12",
        **fields,
    )


def compared(slower: float = 1.0, **fields: Any) -> TestResult:
    """Return a test of three metrics compared in seven pairs; two of them change alike."""
    noise = (1.0, 1.004, 0.997, 1.002, 0.999, 1.003, 0.996)
    base = (1.002, 0.998, 1.001, 1.0, 1.003, 0.997, 1.0)
    rate = [85.0 * v**2 / slower for v in noise]
    rows = (
        row("tokens_per_sec", *rate, base=[85.0 * v for v in base], limit=60.0),
        row("first_token", *(0.41 * v * slower for v in noise), base=[0.41 * v for v in base]),
        row("end_to_end", *(1.84 * v * slower for v in noise), base=[1.84 * v for v in base]),
    )
    fields.setdefault("pairs", 7)
    return TestResult(
        "tests/perf/test_chat.py::test_short_answer",
        rows,
        workload="1 request, 38 tokens in, 64 out",
        **fields,
    )


def new_test() -> TestResult:
    """Return a test that no baseline holds yet."""
    return TestResult(
        "tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]",
        (
            row("tokens_per_sec", 84.9, 84.1, 85.6, limit=60.0),
            row("prefill_tokens_per_sec", 301, 300, 302, gated=False),
            row("first_token", 0.412, 0.411, 0.415),
        ),
        workload="2 requests, 1,400 tokens in, 64 out",
        workload_hash="sha256:cd34",
        processes=3,
    )


def session(*tests: TestResult, **fields: Any) -> SessionResult:
    """Return a session of these tests on a machine with a GPU."""
    plain = SessionResult(
        machine_key="1x-rtx-4090-24gib_cuda",
        model="SmolLM2-135M-Instruct Q4_1",
        engine="llama_cpp 0.3.36",
        processes=3,
        iterations=3,
        seed=7,
        tests=tests,
        wall_seconds=58.0,
        generation_seconds=52.2,
        recording_generation_seconds=3.9,
    )
    return replace(plain, **fields)


def full_table(*args: Any, **kwargs: Any) -> list[str]:
    """Return the table as ``-v`` shows it; the arguments are those of ``render_table``."""
    return render_table(*args, **{"verbosity": 1, **kwargs})


def text(*args: Any, **kwargs: Any) -> str:
    """Return the table of ``full_table`` as one text."""
    return "\n".join(full_table(*args, **kwargs))
