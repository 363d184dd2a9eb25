"""The plugin's own metrics, in the order in which tables show them, and their formulas.

A formula takes a run, or only the timelines of its requests. It returns None if the metric is
undefined, also for a time of zero, which is below the clock's resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pytest_llmperf.metric_types import Direction, Metric, Unit
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline


def _decode(timelines: Sequence[Timeline]) -> tuple[int, float]:
    """Return pooled decode steps and the seconds they took, over all requests."""
    steps, seconds = 0, 0.0
    for timeline in timelines:
        if timeline.output_tokens >= 2:
            steps += timeline.output_tokens - 1
            seconds += timeline.token_times[-1] - timeline.token_times[0]
    return steps, seconds


def tokens_per_sec(timelines: Sequence[Timeline]) -> float | None:
    """Return decode throughput, steps and seconds pooled over requests."""
    steps, seconds = _decode(timelines)
    return steps / seconds if steps and seconds > 0 else None


def time_per_output_token(timelines: Sequence[Timeline]) -> float | None:
    """Return seconds per decode step, pooled over requests."""
    steps, seconds = _decode(timelines)
    return seconds / steps if steps and seconds > 0 else None


def prefill_tokens_per_sec(timelines: Sequence[Timeline]) -> float | None:
    """Return prompt tokens evaluated per second, pooled over requests."""
    tokens, seconds = 0, 0.0
    for timeline in timelines:
        start, end = timeline.t_prefill_start, timeline.t_prefill_end
        if timeline.prompt_tokens_evaluated is None or start is None or end is None:
            return None
        tokens += timeline.prompt_tokens_evaluated
        seconds += end - start
    return tokens / seconds if tokens and seconds > 0 else None


def first_token(timelines: Sequence[Timeline]) -> float | None:
    """Return the median of the requests' times to the first token, seconds."""
    firsts = [t.token_times[0] - t.t_start for t in timelines if t.token_times]
    return (median(firsts) or None) if firsts else None


def first_answer_token(timelines: Sequence[Timeline]) -> float | None:
    """Return the median of the requests' times to the first token after any reasoning, seconds."""
    firsts = [t.t_first_answer - t.t_start for t in timelines if t.t_first_answer is not None]
    return (median(firsts) or None) if firsts else None


def end_to_end(run: Run) -> float | None:
    """Return the sum of the requests' durations, seconds; a load has none."""
    if run.sent is not None or not run.timelines or any(not t.token_times for t in run):
        return None
    return sum(t.token_times[-1] - t.t_start for t in run) or None


def request_latency(run: Run) -> float | None:
    """Return the median of the durations of a load's requests, seconds."""
    whole = [t.token_times[-1] - t.t_start for t in run if run.sent is not None and t.token_times]
    return (median(whole) or None) if whole else None


def requests_per_sec(run: Run) -> float | None:
    """Return the answers to a load per second of its window."""
    if run.sent is None or run.seconds <= 0:
        return None
    return len(run) / run.seconds or None


def output_tokens_per_sec(run: Run) -> float | None:
    """Return the output tokens of all answers to a load per second of its window."""
    if run.sent is None or run.seconds <= 0:
        return None
    return sum(t.output_tokens for t in run) / run.seconds or None


def goodput(run: Run) -> float | None:
    """Return the share of a load's requests that were answered within all limits."""
    return None if run.good is None or not run.sent else run.good / run.sent


def error_rate(run: Run) -> float | None:
    """Return the share of a load's requests that got no complete answer."""
    return 1 - len(run) / run.sent if run.sent else None


def inter_token(timelines: Sequence[Timeline]) -> float | None:
    """Return the median gap between tokens over all requests, seconds."""
    gaps = [gap for timeline in timelines for gap in timeline.gaps()]
    return (median(gaps) or None) if gaps else None


def not_in_runs(_: Run) -> None:
    """Return None: the metric is measured outside of the generations."""


_LLAMA_BENCH = "llama.cpp tools/llama-bench"
_GENAI_PERF = "NVIDIA AIPerf / GenAI-Perf metric definitions"
_NVML = "NVML API reference"

OWN_METRICS = (
    Metric(
        "tokens_per_sec",
        "tokens/s",
        Unit.TOKENS_PER_SECOND,
        Direction.HIGHER,
        "decode",
        "(n-1) / (t_n - t_1), tokens and times pooled over requests",
        f"{_LLAMA_BENCH}, test tg; decode throughput without the first token",
        tokens_per_sec,
    ),
    Metric(
        "first_token",
        "first token",
        Unit.SECONDS,
        Direction.LOWER,
        "first_token",
        "t_1 - t_start, tokenizing and prefill included; median over requests",
        f"{_GENAI_PERF}, time to first token (TTFT)",
        first_token,
    ),
    Metric(
        "end_to_end",
        "end to end",
        Unit.SECONDS,
        Direction.LOWER,
        "end_to_end",
        "t_n - t_start, summed over requests; undefined under load",
        f"{_GENAI_PERF}, request latency",
        end_to_end,
    ),
    Metric(
        "prefill_tokens_per_sec",
        "prefill",
        Unit.TOKENS_PER_SECOND,
        Direction.HIGHER,
        "prefill",
        "prompt tokens evaluated / time to evaluate them, pooled over requests",
        f"{_LLAMA_BENCH}, test pp",
        prefill_tokens_per_sec,
    ),
    Metric(
        "time_per_output_token",
        "time per token",
        Unit.SECONDS,
        Direction.LOWER,
        "decode",
        "(t_n - t_1) / (n-1), pooled over requests",
        f"{_GENAI_PERF}, time per output token (TPOT)",
        time_per_output_token,
    ),
    Metric(
        "inter_token",
        "inter-token",
        Unit.SECONDS,
        Direction.LOWER,
        "inter_token",
        "median of the gaps t_{i+1} - t_i over all requests",
        f"{_GENAI_PERF}, inter-token latency (ITL)",
        inter_token,
    ),
    Metric(
        "request_latency",
        "request latency",
        Unit.SECONDS,
        Direction.LOWER,
        "request_latency",
        "t_n - when the request was due, median over requests; under load only",
        f"{_GENAI_PERF}, request latency",
        request_latency,
    ),
    Metric(
        "first_answer_token",
        "first answer token",
        Unit.SECONDS,
        Direction.LOWER,
        "first_answer_token",
        "time to the first token after any reasoning, median over requests; servers only",
        f"{_GENAI_PERF}, time to first output token (TTFO)",
        first_answer_token,
    ),
    Metric(
        "requests_per_sec",
        "requests/s",
        Unit.PER_SECOND,
        Direction.HIGHER,
        "requests_per_sec",
        "complete answers / seconds from the first request's due time to the last answer's end; "
        "under load only",
        f"{_GENAI_PERF}, request throughput",
        requests_per_sec,
    ),
    Metric(
        "output_tokens_per_sec",
        "output tokens/s",
        Unit.TOKENS_PER_SECOND,
        Direction.HIGHER,
        "output_tokens_per_sec",
        "output tokens of all complete answers / the same seconds; under load only",
        f"{_GENAI_PERF}, output token throughput",
        output_tokens_per_sec,
    ),
    Metric(
        "goodput",
        "goodput",
        Unit.RATIO,
        Direction.HIGHER,
        "goodput",
        "share of a load's requests answered within all limits of the marker goodput",
        "Zhong et al.: DistServe (OSDI 2024), as a share of the requests sent",
        goodput,
        resolution=0.01,
        largest=1.0,
    ),
    Metric(
        "error_rate",
        "error rate",
        Unit.RATIO,
        Direction.LOWER,
        "error_rate",
        "share of a load's requests without a complete answer",
        "AIPerf, error request count, as a share",
        error_rate,
        resolution=0.001,
        largest=1.0,
    ),
    Metric(
        "stall_rate",
        "stall rate",
        Unit.RATIO,
        Direction.LOWER,
        "stall_rate",
        "share of iterations longer than 1.25 times the median over processes",
        "for changes that hit a minority of iterations, which a median does not show",
        not_in_runs,
        kind="share",
        resolution=0.01,
    ),
    Metric(
        "roofline",
        "roofline",
        Unit.RATIO,
        Direction.HIGHER,
        "decode",
        "bytes read per token (weights used, and the KV cache at that depth) * tokens per "
        "second / memory bandwidth",
        "Williams, Waterman, Patterson: Roofline (CACM 2009); decode at batch size 1 is "
        "bound by memory",
        not_in_runs,
        beside=True,
        compared=False,
    ),
    Metric(
        "gpu_memory",
        "GPU memory",
        Unit.BYTES,
        Direction.LOWER,
        "gpu_memory",
        "peak device memory of the engine's process during an iteration, over all its GPUs",
        f"{_NVML}, nvmlDeviceGetComputeRunningProcesses",
        not_in_runs,
        beside=True,
        resolution=2.0**20,
    ),
    Metric(
        "energy_per_token",
        "energy/token",
        Unit.JOULES,
        Direction.LOWER,
        "energy_per_token",
        "energy of all GPUs over a process's counted iterations / their output tokens",
        f"{_NVML}, nvmlDeviceGetTotalEnergyConsumption",
        not_in_runs,
        beside=True,
        resolution=1e-3,
    ),
    Metric(
        "gpu_power",
        "GPU power",
        Unit.WATTS,
        Direction.LOWER,
        "gpu_power",
        "mean power of all GPUs over a process's counted iterations",
        f"{_NVML}, nvmlDeviceGetTotalEnergyConsumption, else nvmlDeviceGetPowerUsage",
        not_in_runs,
        beside=True,
        resolution=1.0,
    ),
    Metric(
        "gpu_utilization",
        "GPU busy",
        Unit.RATIO,
        Direction.HIGHER,
        "gpu_utilization",
        "mean share of time with a kernel running while decoding, over all GPUs",
        f"{_NVML}, nvmlDeviceGetUtilizationRates",
        not_in_runs,
        beside=True,
        resolution=0.01,
    ),
)
