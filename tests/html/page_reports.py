"""Reports to make pages of, judged by the real gate."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from report_sessions import new_test, session, short_answer

from pytest_llmperf.baselines.record import ModelIdentity, Provenance
from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.measure.process_sample import BASE, CANDIDATE, ProcessSample
from pytest_llmperf.measure.samples import TestSamples
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.json_report import session_json
from pytest_llmperf.session.report_history import PastChange, PastLevels, PastSession, ReportHistory
from pytest_llmperf.session.result import CheckResult, DiagnosedCause, SessionResult, TestResult
from pytest_llmperf.session.shown_timelines import shown_timelines

#: Text that a name, a reason or a setting may hold and that must never become markup.
HOSTILE = (
    "tests/t.py::test_x[</script><script>alert(1)</script>-<img src=x onerror=alert(2)>-"
    "\u2028\u2029\x1b[31m\udcff\u202e&amp;\"'`${7*7}{{7*7}}-->]"
)
LEVELS = {"tokens_per_sec": 85.0, "first_token": 0.41, "end_to_end": 1.84}


def paired(
    nodeid: str = "tests/perf/test_chat.py::test_short_answer",
    slower: float = 1.0,
    pairs: int = 12,
    iterations: int = 3,
    **fields: Any,
) -> TestResult:
    """Return a test compared with another commit in pairs of processes, with timelines."""
    rng = random.Random(f"{nodeid} {slower}")
    rows = []
    for name, level in LEVELS.items():
        metric = get_metric(name)
        factor = 1 / slower if metric.direction.value == "higher" else slower
        base = tuple(_process(rng, level, iterations) for _ in range(pairs))
        own = tuple(_process(rng, level * factor, iterations) for _ in range(pairs))
        limit = {"tokens_per_sec": 60.0, "end_to_end": 1.9}.get(name)
        evidence = Evidence(
            nodeid,
            Check(metric, limit, 0.05),
            own,
            planned_processes=3,
            pairs=Pairs(own, base, "merge-base (1a2b3c4d)", 12.0),
            ended=True,
        )
        rows.append(CheckResult(evidence, judge(evidence)))
    return TestResult(
        nodeid,
        tuple(rows),
        workload="1 request, 38 tokens in, 64 out",
        workload_hash="sha256:ab12",
        pairs=pairs,
        processes=pairs,
        timelines=shown_timelines(timed(rng)),
        command=f"pytest -m perf --llmperf-against main {nodeid}",
        **fields,
    )


def timed(rng: random.Random, tokens: int = 64) -> TestSamples:
    """Return samples of both sides with gaps between tokens, one of them a stall."""
    processes = []
    for number in range(6):
        gaps = [rng.gauss(0.0118, 0.0002) for _ in range(3 * (tokens - 1))]
        if number == 2:
            gaps[tokens + 20] = 0.31
        rows, counts = [], (tokens - 1,)
        for iteration in range(3):
            own = gaps[iteration * counts[0] : (iteration + 1) * counts[0]]
            rows.append({"end_to_end": 0.41 + sum(own)})
        processes.append(
            ProcessSample(
                number,
                tuple(rows),
                side=BASE if number % 2 else CANDIDATE,
                pair=number // 2,
                pooled={"inter_token": tuple(gaps), "first_token": (0.41, 0.412, 0.409)},
                gap_counts=(counts,) * 3,
            )
        )
    return TestSamples(processes)


def _process(rng: random.Random, level: float, iterations: int) -> tuple[float, ...]:
    centre = level * rng.gauss(1.0, 0.008)
    return tuple(centre * rng.gauss(1.0, 0.004) for _ in range(iterations))


def slow_and_explained() -> TestResult:
    """Return a test that is slower than stored sessions, with causes, findings and a diagnosis."""
    return replace(
        short_answer(1.3),
        nodeid="tests/perf/test_chat.py::test_long_prompt",
        findings=("2 stalled iterations (over 1.25 times their process's median)",),
        differences=("llm.n_gpu_layers: base -1, candidate 12",),
        causes=("llm.n_gpu_layers: baseline -1, now 12", "12 of 31 layers are on the GPU"),
        diagnosis=(
            DiagnosedCause(
                "gpu_layers",
                "layers left on the CPU",
                "12 of 31 layers are on the GPU",
                "n_gpu_layers: -1",
            ),
            DiagnosedCause("batch", "small batches", "n_batch is 32", "n_batch: 512", False),
        ),
        doctor_command="llmperf doctor --prompt-tokens 38",
        command="pytest -m perf tests/perf/test_chat.py::test_long_prompt",
    )


def history() -> ReportHistory:
    """Return thirty earlier sessions of ``test_long_prompt``, with a change of level."""
    rng = random.Random(3)
    sessions = tuple(
        PastSession(f"2026-10-{day:02}T10:15:00Z", f"{day:02}" * 20, False, f"{day}.json")
        for day in range(1, 31)
    )
    levels = tuple(85 * rng.gauss(1, 0.01) * (0.93 if day > 17 else 1) for day in range(30))
    changes = (PastChange(18, 0.073, 0.061, 0.085),)
    past = PastLevels(tuple(range(30)), levels, changes)
    return ReportHistory(
        sessions, {"tests/perf/test_chat.py::test_long_prompt": {"tokens_per_sec": past}}
    )


def whole_session(*more: TestResult, **fields: Any) -> SessionResult:
    """Return a session with every kind of content."""
    return session(
        slow_and_explained(),
        paired(slower=1.004),
        paired("tests/perf/test_chat.py::test_summary", 1.12),
        new_test(),
        *more,
        busy=("another process used 0.6 cores: stress (pid 4711)",),
        notes=("measured by 3 processes each",),
        measured_at="2026-11-28T20:41:07Z",
        command="pytest -m perf --llmperf-against main --llmperf-html report.html",
        provenance=Provenance(
            "1a2b3c4d" * 5, True, "kv-cache", "0.1.0", "3.11.9", "llama_cpp", "0.3.36", "cuda"
        ),
        model_file=ModelIdentity("SmolLM2-135M-Instruct", "ab" * 32, 98_000_000, "Q4_1"),
        config={"n_ctx": 2048, "n_batch": 512, "n_gpu_layers": -1},
        machine_facts={"cpu": "Xeon", "gpu": "RTX 4090"},
        history=history(),
        **fields,
    )


def telemetry(samples: int = 120) -> dict[str, Any]:
    """Return a test's telemetry as in the JSON report: a card that ran into its power limit."""
    rng = random.Random(5)
    power = [min(450.0, 300 + 3 * i + rng.gauss(0, 6)) for i in range(samples)]
    heat = [55 + 20 * i / samples for i in range(samples)]
    clock = [2520 - (200 if value >= 449 else 0) for value in power]
    course = {
        "seconds": [round(0.05 * (i % 40), 2) for i in range(samples)],
        "processes": [*range(0, samples, 40)],
        "counters": {"power_w": power, "temperature_c": heat, "sm_mhz": clock},
    }
    spread = {"mean": 420.0, "min": 301.0, "max": 450.0}
    gpu = {
        "gpu": 0,
        "uuid": "GPU-1",
        "used": True,
        "samples": samples,
        "counters": {"power_w": spread},
        "lowered_clocks": {"at its power limit": 61},
        "xids": [],
        "lost": False,
        "course": course,
    }
    return {"hz": 20.0, "gpus": [gpu]}


def roofline() -> dict[str, Any]:
    """Return a test's roofline as in the JSON report."""
    device = {
        "weight_bytes": 91e6,
        "cache_bytes": 4.2e6,
        "bandwidth": 1.008e12,
        "how": "memory clock and bus width, NVML",
        "spread": None,
    }
    return {
        "share": 0.61,
        "problem": None,
        "limit_tokens_per_sec": 139.0,
        "bytes_per_token": 95.2e6,
        "depth": 70.0,
        "model_bytes": 98e6,
        "devices": {"CUDA0": device},
    }


def whole_report(*more: TestResult, **fields: Any) -> dict[str, Any]:
    """Return ``whole_session`` as JSON, with telemetry and roofline."""
    report = session_json(whole_session(*more, **fields))
    for test in report["tests"][:2]:
        test["telemetry"], test["roofline"] = telemetry(), roofline()
    report["session"]["gpus"] = [{"index": 0, "name": "NVIDIA GeForce RTX 4090"}]
    return report


def hostile_report() -> dict[str, Any]:
    """Return a report with markup in every text."""
    report = whole_report()

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            fixed = _FIXED | ({"against"} if "looks" in value else set())
            return {key: item if key in fixed else poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return f"{value} {HOSTILE}" if isinstance(value, str) else value

    poisoned: dict[str, Any] = poison(report)
    return poisoned


#: Keys whose text is one of a fixed set of choices.
_FIXED = frozenset({"verdict", "direction", "side", "picked", "unit", "fails"})
