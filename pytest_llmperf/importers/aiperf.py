"""Reads NVIDIA AIPerf's ``profile_export_aiperf.json``: the summary of one run.

According to its source (aiperf/metrics/types): ``request_latency`` runs from the request's start
to the last response, ``time_to_first_token`` to the first one; ``inter_token_latency`` is (latency
- TTFT) / (n-1) of each request: a time per output token, not a gap; ``inter_chunk_latency`` are the
gaps between responses, which may hold several tokens each. If there are as many gaps as tokens
after the first, each response held one token.
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
    shortened,
    time_of,
)
from pytest_llmperf.importers.protocol import ImportedRun, LayoutError, ToolIdentity, ToolResults

_SIGNS = frozenset({"request_latency", "request_count"})
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}
_PERCENTILES = ("p90", "p95", "p99")
_IDENTITY = frozenset(
    {*_SIGNS, "schema_version", "aiperf_version", "input_config", "start_time", "end_time"}
    | {"input_sequence_length", "output_sequence_length", "total_osl", "error_request_count"}
    | {"was_cancelled", "is_complete", "error_summary", "run_info", "benchmark_id"}
    | {"time_to_first_token"}
)
_DECODE = "request_latency.avg, time_to_first_token.avg, output_sequence_length.avg, request_count"
_RATES = ("output_token_throughput", "total_token_throughput", "request_throughput")
_CHUNKS = "gaps between responses, of which one may hold several tokens"
_WHY_NOT = {
    "inter_token_latency": serving.MEAN_OF_RATIOS,
    "output_token_throughput_per_user": "the mean of 1 / inter_token_latency over requests; here "
    "tokens and times are pooled over requests",
    "prefill_throughput": "prompt tokens / TTFT: with the network and waiting in the time",
    "prefill_throughput_per_user": "prompt tokens / TTFT: with the network and waiting in the time",
    "time_to_second_token": "a gap that is no metric here",
    "e2e_output_token_throughput": "tokens / whole latency, prefill included: no decode rate",
}


class AiPerf:
    """Reads the results of NVIDIA AIPerf."""

    tool = "aiperf"
    written_by = "aiperf profile (profile_export_aiperf.json)"
    signs = "an object with request_latency, request_count and input_config"

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether the documents are one result of AIPerf."""
        first = documents[0] if len(documents) == 1 else None
        if not isinstance(first, dict) or not first.keys() >= _SIGNS:
            return False
        latency = first["request_latency"]
        return isinstance(latency, dict) and "unit" in latency

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return the run.

        Raises:
            LayoutError: a field or unit is missing or impossible, or no request completed.
        """
        table = FieldTable()
        run = _run(Item(documents[0], "", self.tool), table)
        notes = (
            "AIPerf's file has no time zone: the date counts as UTC",
            serving.CLIENT_TIMES,
        )
        return ToolResults((run,), table.uses(), notes)


def _run(item: Item, table: FieldTable) -> ImportedRun:
    counted = item.item("request_count").above_zero("avg")
    if counted is None:
        raise serving.nothing_completed()
    completed = round(counted)
    prompt, output = (_average(item, f"{which}_sequence_length") for which in ("input", "output"))
    config = _Config(item)
    load, limit = config.load(), config.request_limit()
    errors = item.optional_item("error_request_count")
    failed = 0 if errors is None else round(errors.optional_number("avg") or 0.0)
    cancelled = ("the run was cancelled",) if item.data.get("was_cancelled") is True else ()
    return ImportedRun(
        test=f"profile[{serving.load_name(load, limit)}]",
        workload={
            "requests": limit,
            "prompt_tokens": serving.rounded(prompt),
            "output_tokens": serving.rounded(output),
            **load,
        },
        summary=f"{serving.tokens_words(limit, prompt, output)}, {serving.concurrency_words(load)}",
        metrics=_metrics(item, completed, limit, output, table),
        identity=ToolIdentity(
            version=item.text("aiperf_version"), model=config.model(), engine=config.endpoint()
        ),
        recorded=time_of(item, "start_time"),
        digest=digest_of(item.data),
        invalid=(*serving.failed_requests(failed, failed + completed), *cancelled),
    )


class _Config:
    """The settings of a run; the file has only those that the user gave.

    Up to about version 0.5 they are ``endpoint.model_names`` and ``loadgen``, later ``models``
    and ``phases``.
    """

    def __init__(self, item: Item) -> None:
        self._file = item
        self._config = item.optional_item("input_config") or Item({}, "input_config.", item.tool)
        self._endpoint = self._config.optional_item("endpoint") or Item({}, "", item.tool)
        self._old = self._config.optional_item("loadgen") or Item({}, "", item.tool)
        phases = list(self._config.items("phases")) if self._config.has("phases") else []
        measured = [phase for phase in phases if phase.text("kind") != "warmup"]
        if len(measured) > 1:
            raise LayoutError(
                f"a run of {len(measured)} measured phases, whose requests its summary mixes",
                "measure each phase in a run of its own",
            )
        self._phase = measured[0] if measured else Item({}, "", item.tool)

    def model(self) -> str | None:
        """Return the model's name."""
        models = self._config.optional_item("models")
        if models is not None and models.has("items"):
            names: list[object] = [model.text("name") for model in models.items("items")]
        elif self._endpoint.has("model_names"):
            names = self._endpoint.list("model_names")
        else:
            return None
        if not all(isinstance(name, str) for name in names):
            raise self._endpoint.wrong("model_names", "a list of texts", names)
        return model_name(shortened(", ".join(map(str, names)))) if names else None

    def endpoint(self) -> str | None:
        """Return the kind of the endpoint."""
        return self._endpoint.text("type")

    def load(self) -> dict[str, Any]:
        """Return the load; without a rate, AIPerf's default is one request at a time."""
        rate = self._phase.above_zero("rate") or self._old.above_zero("request_rate")
        limit = self._phase.optional_whole("concurrency") or self._old.optional_whole("concurrency")
        kind = self._phase.text("type")
        return {
            "max_concurrency": limit if limit is not None else (1 if rate is None else None),
            "request_rate": rate or "inf",
            **({} if kind in (None, "concurrency") else {"arrivals": kind}),
        }

    def request_limit(self) -> int | None:
        """Return the number of requests that ended the run; None if a time limit did."""
        if self._phase.has("duration") or self._old.has("benchmark_duration"):
            return None
        given = self._phase.optional_whole("requests") or self._old.optional_whole("request_count")
        return given or _whole_count(self._file)


def _whole_count(item: Item) -> int:
    return round(item.item("request_count").number("avg"))


def _average(item: Item, name: str) -> float | None:
    statistics = item.optional_item(name)
    return None if statistics is None else statistics.above_zero("avg")


def _in_seconds(item: Item, name: str, field: str) -> float | None:
    """Return a time in seconds, converted from the unit that the file names.

    Raises:
        LayoutError: the unit is not a known unit of time.
    """
    statistics = item.optional_item(name)
    value = None if statistics is None else statistics.above_zero(field)
    if statistics is None or value is None:
        return None
    unit = statistics.text("unit")
    if unit not in _SECONDS:
        raise LayoutError(
            f"{name}.unit: expected one of {', '.join(_SECONDS)}, got {unit!r}",
            "import a file that AIPerf wrote and nobody changed",
        )
    return value * _SECONDS[unit]


def _metrics(
    item: Item, completed: int, limit: int | None, output: float | None, table: FieldTable
) -> dict[str, tuple[float, ...]]:
    run = RunMetrics(table)
    median = _in_seconds(item, "time_to_first_token", "p50")
    if median is None:
        table.add_unused("time_to_first_token", "not in the file; it is with --streaming")
    else:
        run.add("time_to_first_token.p50", "first_token", median, "median over requests; to s")
        for name in _PERCENTILES:
            value = _in_seconds(item, "time_to_first_token", name)
            if value is not None:
                run.add(f"time_to_first_token.{name}", f"first_token_{name}", value, "to s")
    latency = _in_seconds(item, "request_latency", "avg")
    serving.add_pooled_decode(
        run,
        requests=completed,
        output_tokens=(output or 0.0) * completed,
        latency=latency,
        first=_in_seconds(item, "time_to_first_token", "avg"),
        fields=_DECODE,
    )
    if latency is not None and limit is not None:
        why = "times request_count: the sum over requests; to s"
        run.add("request_latency.avg", "end_to_end", latency * completed, why)
    elif latency is not None:
        table.add_unused(
            "request_latency", "the run was limited by time: its number of requests varies"
        )
    _add_gaps(run, item, (output or 0.0) * completed - completed)
    for name, why in _WHY_NOT.items():
        table.add_unused_if_present(item, (name,), why)
    table.add_unused_if_present(item, _RATES, serving.WHOLE_RUN)
    table.add_other_fields(item, _IDENTITY)
    return run.values


def _add_gaps(run: RunMetrics, item: Item, steps: float) -> None:
    """Add the median gap between tokens if there are as many gaps as tokens after the first."""
    name = "inter_chunk_latency"
    statistics = item.optional_item(name)
    median = _in_seconds(item, name, "p50")
    if statistics is None or median is None:
        return
    gaps = statistics.optional_number("count")
    if gaps is None or gaps != round(steps):
        run.table.add_unused(name, _CHUNKS)
        return
    why = "median gap; there are as many gaps as tokens after the first; to s"
    run.add(f"{name}.p50", "inter_token", median, why)
