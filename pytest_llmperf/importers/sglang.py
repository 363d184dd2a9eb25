"""Reads SGLang's ``bench_serving``, which appends a line for each run to its file.

According to its source (python/sglang/bench_serving.py): TTFT and TPOT are defined as in vLLM, the
latency ends with the last chunk. ITL are gaps between chunks; with SGLang's own endpoint a chunk of
several tokens counts as several equal gaps, so they are not gaps between tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
)
from pytest_llmperf.importers.protocol import ImportedRun, ToolIdentity, ToolResults

_SIGNS = frozenset({"backend", "dataset_name", "request_rate", "completed", "mean_e2e_latency_ms"})
_DECODE = "mean_e2e_latency_ms, mean_ttft_ms, total_output_tokens, completed"
_IDENTITY = frozenset(
    {*_SIGNS, "duration", "max_concurrency", "server_info", "total_input_tokens"}
    | {"random_input_len", "random_output_len", "random_range_ratio", "sharegpt_output_len"}
)
_RATES = (
    *("output_throughput", "total_throughput", "input_throughput", "max_output_tokens_per_s"),
    *("output_throughput_retokenized", "total_throughput_retokenized"),
)
#: Those of the server's many settings that affect its speed most.
_SETTINGS = (
    *("dtype", "quantization", "kv_cache_dtype", "tp_size", "dp_size", "pp_size", "ep_size"),
    *("attention_backend", "chunked_prefill_size", "max_running_requests", "mem_fraction_static"),
    *("disable_radix_cache", "disable_cuda_graph", "speculative_algorithm"),
)


class Sglang:
    """Reads the results of SGLang's ``bench_serving``."""

    tool = "sglang"
    written_by = "python -m sglang.bench_serving --output-file FILE"
    signs = "objects with backend, dataset_name, request_rate, completed and mean_e2e_latency_ms"

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether every document is a result."""
        return all(isinstance(result, dict) and result.keys() >= _SIGNS for result in documents)

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return a run for each line.

        Raises:
            LayoutError: a field is missing or impossible, or no request completed.
        """
        table = FieldTable()
        runs = tuple(_run(item, table) for item in objects(documents, "run", self.tool))
        notes = (serving.CLIENT_TIMES,)
        return ToolResults(runs, table.uses(), notes)


def _run(item: Item, table: FieldTable) -> ImportedRun:
    completed = item.whole("completed")
    if not completed:
        raise serving.nothing_completed()
    output = item.number("total_output_tokens")
    prompt = item.number("total_input_tokens")
    rate: Any = item.data["request_rate"]
    if rate != "trace":
        # Python writes an infinite rate as Infinity, which is not JSON but which Python reads.
        rate = "inf" if rate in ("inf", float("inf")) else item.number("request_rate")
    load = {"max_concurrency": item.optional_whole("max_concurrency"), "request_rate": rate}
    data = shortened(item.text("dataset_name") or "unknown")
    size = {"prompt": prompt / completed, "output": output / completed}
    return ImportedRun(
        test=f"{data}[{serving.load_name(load, completed)}]",
        workload={
            "requests": completed,
            "dataset": data,
            "prompt_tokens": serving.rounded(size["prompt"]),
            "output_tokens": serving.rounded(size["output"]),
            **load,
        },
        summary=f"{serving.tokens_words(completed, size['prompt'], size['output'])} ({data}), "
        f"{serving.concurrency_words(load)}",
        metrics=_metrics(item, completed, output, table),
        identity=_identity(item),
        recorded=None,
        digest=digest_of(item.data),
        settings=_settings(item),
    )


def _metrics(
    item: Item, completed: int, output: float, table: FieldTable
) -> dict[str, tuple[float, ...]]:
    run = RunMetrics(table)
    serving.add_seconds(run, item, "median_ttft_ms", "first_token", "median over requests")
    serving.add_seconds(run, item, "p99_ttft_ms", "first_token_p99", "percentile over requests")
    latency = serving.seconds(item, "mean_e2e_latency_ms")
    first = serving.seconds(item, "mean_ttft_ms")
    serving.add_pooled_decode(
        run,
        requests=completed,
        output_tokens=output,
        latency=latency if first else None,
        first=first,
        fields=_DECODE,
    )
    if latency is not None:
        why = "times completed: the sum over requests; ms to s"
        run.add("mean_e2e_latency_ms", "end_to_end", latency * completed, why)
    _note_left_out(item, table)
    return run.values


def _identity(item: Item) -> ToolIdentity:
    server = item.optional_item("server_info")
    if server is None:
        return ToolIdentity(engine=item.text("backend"))
    version = server.text("version")
    name = server.text("served_model_name") or server.text("model_path")
    # The benchmark's own version is not in the file; it is installed with the server's package.
    return ToolIdentity(engine="sglang", engine_version=version, model=model_name(name))


def _settings(item: Item) -> dict[str, Any]:
    server = item.optional_item("server_info")
    values = {} if server is None else {name: server.data.get(name) for name in _SETTINGS}
    return {
        name: shortened(value) if isinstance(value, str) else value
        for name, value in values.items()
        if isinstance(value, bool | int | float | str)
    }


def _note_left_out(item: Item, table: FieldTable) -> None:
    names = [shortened(name) for name in item.data]
    tpot = [name for name in names if name.endswith("_tpot_ms")]
    table.add_unused_if_present(item, tpot, serving.MEAN_OF_RATIOS)
    table.add_unused_if_present(
        item,
        [name for name in names if name.endswith("_itl_ms")],
        "gaps between chunks; those of several tokens are split evenly, or are one gap",
    )
    table.add_unused_if_present(item, _RATES, serving.WHOLE_RUN)
    table.add_unused_if_present(item, ("request_throughput",), "requests, not tokens, a second")
    table.add_unused_if_present(item, ("concurrency",), "the load that came about, not a speed")
    pattern = r"(std_ttft|std_e2e_latency|median_e2e_latency|p\d+_e2e_latency)_ms"
    table.add_unused_if_present(
        item,
        [name for name in names if re.fullmatch(pattern, name)],
        "of single requests; here end to end is their sum",
    )
    table.add_other_fields(item, _IDENTITY)
