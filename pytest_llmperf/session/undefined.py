"""Explains why a metric has no value for a test's requests, and what to do about it."""

from __future__ import annotations

from pytest_llmperf.engine_kinds import EngineKind
from pytest_llmperf.gate.words import count
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.metrics import METRICS, Metric, percentile_parts


def undefined_text(metric: Metric, workload: Workload, kind: EngineKind) -> str:
    """Return why ``metric`` is undefined for a ``workload`` on this kind of engine, and the fix."""
    return f"{metric.name} is undefined for this workload{_reason(metric, workload, kind)}"


def _reason(metric: Metric, workload: Workload, kind: EngineKind) -> str:
    parts = percentile_parts(metric.name)
    quantity = (METRICS[parts[0]] if parts is not None else metric).quantity
    if quantity == "prefill" and not kind.reports_prefill:
        who = "an application" if kind.runs_project_code else f"the {kind.name} engine"
        return (
            f": {who} does not say how long it took to read the prompt; remove the marker, or "
            "ask for first_token"
        )
    if quantity not in ("decode", "inter_token"):
        return f" ({metric.formula}); remove the marker"
    longest = max(request.output_tokens for request in workload.requests)
    several = len(workload.requests) > 1
    if not kind.runs_project_code or all(
        request.request.max_tokens == 1 for request in workload.requests
    ):
        each = " each" if several else ""
        tokens = count(longest, "output token")
        return (
            f": {_requests(workload)} came as {tokens}{each}, and {metric.label} is measured "
            "between tokens, from 2 on; ask for more output tokens, or remove the marker"
        )
    fix = "yield each token as it comes, or remove the marker"
    if longest < 2:
        return (
            f": the application's {'answer' if not several else _answers(workload)} came as 1 "
            f"item{' each' if several else ''} (it was returned whole, or ended after one), and "
            f"{metric.label} is measured between items, from 2 on; {fix}"
        )
    return (
        f": the application's answer of {longest} items came all at once (a list), and "
        f"{metric.label} is measured between items that come one by one; {fix}"
    )


def _answers(workload: Workload) -> str:
    return f"{len(workload.requests)} answers"


def _requests(workload: Workload) -> str:
    return "the answer" if len(workload.requests) == 1 else f"the {_answers(workload)}"
