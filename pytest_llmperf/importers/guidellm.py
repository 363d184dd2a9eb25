"""Reads GuideLLM's ``benchmarks.json``: one benchmark per load, such as each rate of a sweep.

According to its source (src/guidellm/schemas/request_stats.py, benchmark/schemas/metrics.py):

- ``inter_token_latency_ms`` is (t_n - t_1) / (n-1) of each request, and its mean is weighted by
  n-1, so the mean is the pooled time per output token. Each file is checked for this weighting:
  with it, the distribution's count is the number of steps;
- ``time_per_output_token_ms`` is (t_n - t_start) / n: it includes the first token;
- percentiles are values of single requests (nearest rank).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_llmperf.importers import serving
from pytest_llmperf.importers.items import (
    FieldTable,
    Item,
    RunMetrics,
    digest_of,
    model_name,
    time_of_seconds,
)
from pytest_llmperf.importers.protocol import ImportedRun, LayoutError, ToolIdentity, ToolResults

#: GuideLLM's name of a percentile -> the number in our metric's name.
_PERCENTILES = {"p90": "90", "p95": "95", "p99": "99", "p999": "99.9"}
_RATES = ("output_tokens_per_second", "tokens_per_second", "prompt_tokens_per_second")
_IDENTITY = frozenset(
    {"request_totals", "prompt_token_count", "output_token_count", "inter_token_latency_ms"}
    | {"time_to_first_token_ms", "request_latency"}
)
_OLD = "written by GuideLLM before 0.4, which defines token times differently"


class GuideLlm:
    """Reads the results of GuideLLM."""

    tool = "guidellm"
    written_by = "guidellm run (benchmarks.json)"
    signs = "an object with benchmarks and metadata.guidellm_version"

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether the documents are one result of GuideLLM, of any version."""
        first = documents[0] if len(documents) == 1 else None
        if not isinstance(first, dict) or not isinstance(first.get("benchmarks"), list):
            return False
        metadata, points = first.get("metadata"), first["benchmarks"][:1]
        return (isinstance(metadata, dict) and "guidellm_version" in metadata) or (
            bool(points)
            and isinstance(points[0], dict)
            and points[0].get("type_") == "generative_benchmark"
        )

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return a run for each benchmark.

        Raises:
            LayoutError: a field is missing or impossible, or nothing can be imported.
        """
        table = FieldTable()
        file = Item(documents[0], "", self.tool)
        metadata = file.optional_item("metadata")
        version = metadata.text("guidellm_version") if metadata is not None else None
        if version is None:
            raise LayoutError(_OLD, "measure with GuideLLM 0.4 or later")
        points = list(file.items("benchmarks"))
        if not points:
            raise LayoutError("it holds no benchmark", "look into GuideLLM's output for the reason")
        runs = tuple(_run(item, version, table) for item in points if _completed(item))
        if not runs:
            raise serving.nothing_completed()
        notes = [serving.CLIENT_TIMES]
        if len(runs) < len(points):
            empty = [item.where.rstrip(".") for item in points if not _completed(item)]
            were = "was" if len(empty) == 1 else "were"
            notes.append(f"{', '.join(empty)} {were} skipped: no request completed")
        return ToolResults(runs, table.uses(), tuple(notes))


def _completed(item: Item) -> int:
    return item.item("metrics").item("request_totals").whole("successful")


def _run(item: Item, version: str, table: FieldTable) -> ImportedRun:
    config, metrics = item.item("config"), item.item("metrics")
    totals, completed = metrics.item("request_totals"), _completed(item)
    limit = _request_limit(config)
    load = _load(config.item("strategy"))
    prompt = _mean(metrics, "prompt_token_count")
    output = _mean(metrics, "output_token_count")
    kind = config.item("strategy").text("type_") or "unknown"
    name = serving.load_name(load, limit)
    return ImportedRun(
        test=f"{kind}[{name}]" if name else kind,
        workload={
            "requests": limit,
            "prompt_tokens": serving.rounded(prompt),
            "output_tokens": serving.rounded(output),
            "strategy": kind,
            **load,
        },
        summary=f"{serving.tokens_words(limit, prompt, output)}, {serving.concurrency_words(load)}",
        metrics=_metrics(metrics, completed, limit, table),
        identity=_identity(config, version),
        recorded=time_of_seconds(item, "start_time"),
        digest=digest_of({"start": item.data.get("start_time"), "metrics": metrics.data}),
        invalid=serving.failed_requests(
            totals.optional_whole("errored") or 0, totals.optional_whole("total") or completed
        ),
    )


def _load(strategy: Item) -> dict[str, Any]:
    kind = strategy.text("type_")
    limit = strategy.optional_whole("streams") or strategy.optional_whole("max_concurrency")
    return {
        "max_concurrency": 1 if kind == "synchronous" else limit,
        "request_rate": strategy.optional_number("rate") or "inf",
    }


def _request_limit(config: Item) -> int | None:
    """Return the number of requests that ended the run; None if a time limit did."""
    constraints = config.optional_item("constraints")
    if constraints is None:
        return None
    limit = constraints.optional_item("max_requests")
    if limit is None or constraints.has("max_duration"):
        return None
    arguments = limit.optional_item("args") or limit
    return arguments.optional_whole("count") or arguments.optional_whole("max_num")


def _identity(config: Item, version: str) -> ToolIdentity:
    backend = config.optional_item("backend")
    model = engine = None
    if backend is not None:
        model = backend.text("model")
        engine = backend.text("type_") or backend.text("kind")
    return ToolIdentity(version=version, engine=engine, model=model_name(model))


def _successful(metrics: Item, name: str) -> Item | None:
    metric = metrics.optional_item(name)
    return None if metric is None else metric.optional_item("successful")


def _mean(metrics: Item, name: str) -> float | None:
    statistics = _successful(metrics, name)
    return None if statistics is None else statistics.above_zero("mean")


def _metrics(
    item: Item, completed: int, limit: int | None, table: FieldTable
) -> dict[str, tuple[float, ...]]:
    run = RunMetrics(table)
    _add_first_token(run, _successful(item, "time_to_first_token_ms"))
    _add_decode(run, item, completed)
    latency = _mean(item, "request_latency")
    if latency is not None and limit is not None:
        why = "times the requests: the sum over requests, seconds"
        run.add("request_latency.mean", "end_to_end", latency * completed, why)
    elif latency is not None:
        table.add_unused(
            "request_latency", "the run was limited by time: its number of requests varies"
        )
    why = "(t_n - t_start) / n of each request: it includes the first token"
    table.add_unused_if_present(item, ("time_per_output_token_ms",), why)
    table.add_unused_if_present(item, _RATES, serving.WHOLE_RUN)
    table.add_unused_if_present(
        item,
        ("requests_per_second", "request_concurrency"),
        "requests a second, or at once: the load, not a speed of tokens",
    )
    table.add_other_fields(item, _IDENTITY)
    return run.values


def _add_first_token(run: RunMetrics, found: Item | None) -> None:
    if found is None:
        return
    field = "time_to_first_token_ms"
    value = serving.seconds(found, "median")
    if value is None:
        run.table.add_unused(field, serving.NOT_STREAMED)
        return
    why = "median over requests, nearest rank; ms to s"
    run.add(f"{field}.median", "first_token", value, why)
    percentiles = found.optional_item("percentiles")
    if percentiles is None:
        return
    for name, percent in _PERCENTILES.items():
        at = serving.seconds(percentiles, name)
        if at is not None:
            run.add(f"{field}.{name}", f"first_token_p{percent}", at, "ms to s")


def _add_decode(run: RunMetrics, item: Item, completed: int) -> None:
    field = "inter_token_latency_ms.mean"
    gaps = _successful(item, "inter_token_latency_ms")
    tokens = _successful(item, "output_token_count")
    mean = None if gaps is None else serving.seconds(gaps, "mean")
    if gaps is None or tokens is None or mean is None:
        run.table.add_unused(field, serving.NOT_STREAMED)
        return
    steps = tokens.number("total_sum") - completed
    # The count of a distribution weighted by n-1 is that of steps; otherwise that of requests.
    if abs(gaps.number("count") - steps) > max(1.0, 1e-3 * steps):
        run.table.add_unused(field, serving.MEAN_OF_RATIOS)
        return
    how = "(t_n - t_1) / (n-1), weighted by n-1: pooled over requests; ms to s"
    run.add(field, "time_per_output_token", mean, how)
    run.add(field, "tokens_per_sec", 1.0 / mean, "its inverse, tokens per s")
    run.table.add_unused(
        "inter_token_latency_ms, median and percentiles", "of requests' means, not of gaps"
    )
