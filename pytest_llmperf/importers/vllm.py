"""Reads ``vllm bench serve --save-result``: one run per document, of one load on one server.

According to its source (vllm/benchmarks/serve.py): the time to the first token is that of the first
chunk with a choice; TPOT is (latency - TTFT) / (n-1) of each request, then a mean or median over
requests; ITL are the gaps between chunks, which may hold several tokens each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from pytest_llmperf.importers import serving
from pytest_llmperf.importers.items import (
    FieldTable,
    Item,
    RunMetrics,
    digest_of,
    model_name,
    objects,
    shortened,
    time_of,
)
from pytest_llmperf.importers.protocol import ImportedRun, LayoutError, ToolIdentity, ToolResults
from pytest_llmperf.metrics import percentile_name, percentile_parts

_SIGNS = frozenset({"model_id", "num_prompts", "request_rate", "completed", "duration"})
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,2})?)_ttft_ms")
_DATE = "%Y%m%d-%H%M%S"
_DECODE = "mean_ttft_ms, total_output_tokens, completed"
_IDENTITY = frozenset(
    {*_SIGNS, "date", "endpoint_type", "backend", "max_concurrency", "burstiness", "failed"}
    | {"total_input_tokens", "ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps"}
    | {"input_lens", "output_lens", "ttfts", "latencies"}
)
_RATES = ("output_throughput", "total_token_throughput", "max_output_tokens_per_s")


class Vllm:
    """Reads the results of vLLM's ``bench serve``, and of its older ``benchmark_serving.py``."""

    tool = "vllm"
    written_by = "vllm bench serve --save-result (or --append-result)"
    signs = "objects with model_id, num_prompts, request_rate, completed and duration"

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether every document is a result."""
        return all(isinstance(result, dict) and result.keys() >= _SIGNS for result in documents)

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return a run for each document.

        Raises:
            LayoutError: a field is missing or impossible, or no request completed.
        """
        table = FieldTable()
        runs = tuple(_run(item, table) for item in objects(documents, "run", self.tool))
        notes = (
            "vLLM's file has neither its version nor a time zone: the date counts as UTC",
            serving.CLIENT_TIMES,
        )
        return ToolResults(runs, table.uses(), notes)


def _run(item: Item, table: FieldTable) -> ImportedRun:
    completed, planned = item.whole("completed"), item.whole("num_prompts")
    if item.has("total_input_sequences"):
        raise LayoutError(
            "a benchmark of embeddings, which generate no tokens", "import runs that generate text"
        )
    if not completed:
        raise serving.nothing_completed()
    output = item.number("total_output_tokens")
    prompt = item.number("total_input_tokens")
    load = _load(item)
    size = {"prompt": prompt / completed, "output": output / completed}
    return ImportedRun(
        test=f"serve[{serving.load_name(load, planned)}]",
        workload={
            "requests": planned,
            "prompt_tokens": serving.rounded(size["prompt"]),
            "output_tokens": serving.rounded(size["output"]),
            **load,
        },
        summary=f"{serving.tokens_words(planned, size['prompt'], size['output'])}, "
        f"{serving.concurrency_words(load)}",
        metrics=_metrics(item, completed, output, table),
        identity=ToolIdentity(
            engine=item.text("backend") or item.text("endpoint_type"),
            model=model_name(item.text("model_id")),
        ),
        recorded=time_of(item, "date", _DATE),
        digest=digest_of(item.data),
        invalid=serving.failed_requests(max(planned - completed, 0), planned),
    )


def _load(item: Item) -> dict[str, Any]:
    rate: Any = item.data["request_rate"]
    if rate != "inf":
        rate = item.number("request_rate")
    ramp = item.text("ramp_up_strategy")
    return {
        "max_concurrency": item.optional_whole("max_concurrency"),
        "request_rate": rate,
        "burstiness": item.optional_number("burstiness"),
        **({"ramp_up": [ramp, *_ramp(item)]} if ramp else {}),
    }


def _ramp(item: Item) -> list[float | None]:
    return [item.optional_number(f"ramp_up_{end}_rps") for end in ("start", "end")]


def _metrics(
    item: Item, completed: int, output: float, table: FieldTable
) -> dict[str, tuple[float, ...]]:
    run = RunMetrics(table)
    serving.add_seconds(run, item, "median_ttft_ms", "first_token", "median over requests")
    for name in item.data:
        match = _PERCENTILE.fullmatch(name)
        metric = percentile_name("first_token", float(match[1])) if match else ""
        if match and percentile_parts(metric):
            serving.add_seconds(run, item, name, metric, "percentile over requests")
    first = serving.seconds(item, "mean_ttft_ms")
    latency, source = _mean_latency(item, completed)
    serving.add_pooled_decode(
        run,
        requests=completed,
        output_tokens=output,
        latency=latency if first else None,
        first=first,
        fields=f"{source}, {_DECODE}",
    )
    if latency is not None:
        why = "times completed: the sum over requests, seconds"
        run.add(source, "end_to_end", latency * completed, why)
    else:
        table.add_unused(
            source, "not in the file; it is with --percentile-metrics ttft,tpot,itl,e2el"
        )
    _add_gaps(run, item)
    _note_left_out(item, table)
    return run.values


def _mean_latency(item: Item, completed: int) -> tuple[float | None, str]:
    """Return the mean latency in seconds, and the names of the fields that it comes from."""
    mean = serving.seconds(item, "mean_e2el_ms")
    if mean is None and item.has("latencies"):
        return sum(item.numbers("latencies")) / completed or None, "latencies"
    if mean is None and item.has("itls") and item.has("ttfts"):
        total = sum(item.numbers("ttfts")) + sum(map(sum, _gaps(item)))
        return total / completed or None, "ttfts and itls"
    return mean, "mean_e2el_ms"


def _gaps(item: Item) -> list[tuple[float, ...]]:
    """Return the gaps between the chunks of each request."""
    return [_checked(item, index, gaps) for index, gaps in enumerate(item.list("itls"))]


def _add_gaps(run: RunMetrics, item: Item) -> None:
    """Add the median gap between tokens if every chunk is known to hold one token."""
    if not (item.has("itls") and item.has("output_lens")):
        run.table.add_unused_if_present(
            item,
            ("median_itl_ms",),
            "gaps between chunks, of which one may hold several tokens; with --save-detailed the "
            "file says",
        )
        return
    lengths, gaps = item.numbers("output_lens"), _gaps(item)
    if len(gaps) != len(lengths):
        raise item.wrong("itls", f"{len(lengths)} lists", len(gaps))
    one_each = all(not n or len(row) == n - 1 for row, n in zip(gaps, lengths, strict=True))
    if not one_each:
        run.table.add_unused("itls, median_itl_ms", "chunks held several tokens, or none")
        return
    values = [value for row in gaps for value in row]
    middle = median(values) if values else 0.0
    if middle:
        why = "median gap; each chunk was one token"
        run.add("itls, median_itl_ms", "inter_token", middle, why)


def _checked(item: Item, index: int, gaps: object) -> tuple[float, ...]:
    return Item({f"itls[{index}]": gaps}, item.where, item.tool).numbers(f"itls[{index}]")


def _note_left_out(item: Item, table: FieldTable) -> None:
    names = [shortened(name) for name in item.data]
    tpot = [name for name in names if name.endswith("_tpot_ms")]
    table.add_unused_if_present(item, tpot, serving.MEAN_OF_RATIOS)
    table.add_unused_if_present(item, _RATES, serving.WHOLE_RUN)
    table.add_unused_if_present(
        item, ("request_throughput", "request_goodput"), "requests, not tokens, a second"
    )
    spread = [name for name in names if re.fullmatch(r"(std|mean)_(ttft|itl|e2el)_ms", name)]
    table.add_unused_if_present(
        item,
        [name for name in spread if name not in ("mean_ttft_ms", "mean_e2el_ms")],
        "a mean or spread over requests; here the median over requests counts",
    )
    percentiles = [name for name in names if re.fullmatch(r"p[\d.]+_(itl|e2el)_ms", name)]
    table.add_unused_if_present(
        item,
        [*percentiles, *(["median_e2el_ms"] if item.has("median_e2el_ms") else [])],
        "of chunks, or of single requests' durations; here end to end is their sum",
    )
    table.add_other_fields(item, _IDENTITY)
