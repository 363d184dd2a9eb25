"""Helpers for importers of server load generators: pooled decode rates, and the load in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmperf.importers.items import Item, RunMetrics
from pytest_llmperf.importers.protocol import LayoutError

_MILLI = 1000.0
NOT_STREAMED = "0: nothing was streamed"
MEAN_OF_RATIOS = (
    "each request's own (latency - TTFT) / (n-1), then the mean or median over requests; here "
    "tokens and times are pooled over requests"
)
CLIENT_TIMES = (
    "times were measured by the client, including HTTP overhead; the engine alone is faster"
)
WHOLE_RUN = (
    "all requests' tokens over the whole run, with prefill, waiting and concurrent requests: "
    "a throughput, not a decode rate"
)


def add_pooled_decode(
    run: RunMetrics,
    *,
    requests: int,
    output_tokens: float,
    latency: float | None,
    first: float | None,
    fields: str,
) -> None:
    """Add the decode rate and its inverse, pooled over requests, if the mean times allow it.

    The sums of ``t_n - t_1`` and of ``n - 1`` over requests follow exactly from the means and
    the number of requests.

    Args:
        run: receives the metrics.
        requests: number of completed requests.
        output_tokens: total over these requests.
        latency, first: mean latency and mean time to the first token, seconds; None if unknown.
        fields: names of the fields that the rate is computed from.
    """
    steps = output_tokens - requests
    if latency is None or first is None or steps <= 0 or latency <= first:
        run.table.add_unused(
            fields, "not all of them are in the file, so no pooled decode rate follows"
        )
        return
    seconds = requests * (latency - first)
    how = "sum of (n-1) / sum of (latency - TTFT) over requests"
    run.add(fields, "tokens_per_sec", steps / seconds, how)
    run.add(fields, "time_per_output_token", seconds / steps, "its inverse, seconds")


def add_seconds(run: RunMetrics, item: Item, name: str, metric: str, why: str) -> None:
    """Add a time that the file has in milliseconds; 0 means that nothing was measured."""
    if not item.has(name):
        return
    value = item.above_zero(name)
    if value is None:
        run.table.add_unused(name, NOT_STREAMED)
        return
    run.add(name, metric, value / _MILLI, f"{why}; ms to s")


def seconds(item: Item, name: str) -> float | None:
    """Return a time that the file has in milliseconds, in seconds; None where it is 0 or absent."""
    value = item.above_zero(name)
    return None if value is None else value / _MILLI


def failed_requests(failed: int, total: int) -> tuple[str, ...]:
    """Return why a run with failed requests may not judge anything."""
    return (f"{failed} of {total} requests failed",) if failed else ()


def nothing_completed() -> LayoutError:
    """Return the error for a run without any completed request."""
    return LayoutError(
        "no request of the run completed, so nothing was measured",
        "look into the tool's own output for the reason, and run it again",
    )


def concurrency_words(load: Mapping[str, Any]) -> str:
    """Describe how many requests ran at once: ``one request at a time``."""
    limit, rate = load.get("max_concurrency"), load.get("request_rate")
    if limit == 1:
        words = "one request at a time"
    elif limit is not None:
        words = f"up to {limit:g} requests at once"
    elif rate in (None, "inf"):
        words = "all requests at once"
    else:
        words = "requests at once as they come"
    return words if rate in (None, "inf") else f"{words}, {_shown(rate)} a second"


def load_name(load: Mapping[str, Any], requests: int | None) -> str:
    """Return the load as the parameters of a test's id: ``concurrency=8,rate=2,requests=100``."""
    parts = []
    if load.get("max_concurrency") is not None:
        parts.append(f"concurrency={_shown(load['max_concurrency'])}")
    if load.get("request_rate") not in (None, "inf"):
        parts.append(f"rate={_shown(load['request_rate'])}")
    elif load.get("max_concurrency") is None:
        parts.append("rate=inf")
    if requests is not None:
        parts.append(f"requests={requests}")
    return ",".join(parts)


def tokens_words(requests: int | None, prompt: float | None, output: float | None) -> str:
    """Describe the size of the requests: ``100 requests of 512 tokens in and 128 out``."""
    count = "requests" if requests is None else f"{requests} request{'s' * (requests != 1)}"
    if prompt is None and output is None:
        return count
    sizes = [
        f"{round(size)} {'tokens in' if name == 'in' else 'out'}"
        for name, size in (("in", prompt), ("out", output))
        if size is not None
    ]
    return f"{count} of {' and '.join(sizes)} on average"


def rounded(value: float | None) -> int | None:
    """Round a mean number of tokens, for the identity of a workload."""
    return None if value is None else round(value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
