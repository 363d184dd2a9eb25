"""Descriptions of the markers' arguments, for the reference."""

from __future__ import annotations

#: Arguments that mean the same in every marker that has them.
_SHARED = {
    "min": "the target: the metric must be at least this",
    "max": "the target: the metric must be at most this",
    "tolerance": (
        "the slowdown that must be caught, such as `5%`; `auto`: what `llmperf calibrate` found. "
        "Default: `perf.tolerance`"
    ),
    "percentile": "judge this percentile of the metric (above 50, below 100) instead of its median",
}
#: Arguments of single markers.
_OWN = {
    "perf": {"budget": "the longest time to replay this test, such as `2m`; it wins over "
             "`perf.test_budget`"},
    "stall_rate": {"tolerance": "the increase over the other side that must be caught, in "
                   "percentage points of all iterations. Default: `20%`"},
    "quality": {
        "max_kl": "the largest mean KL divergence from the reference, in nats",
        "max_perplexity_increase": "the largest increase of the perplexity over the reference's",
        "min_top1": "the smallest share of positions with the same most likely token",
    },
    "perf_sweep": {
        "n_batch": "the values to test. Any key of `llm` is an argument",
        "n_ctx": "as above; every combination is a test of its own",
    },
    "load": {
        "concurrency": "number of requests in flight: the next one is sent when one has ended",
        "rate": "requests sent per second, regardless of the others: `4` or `'4/s'`",
        "arrivals": "`poisson`: at random times, other ones for each load; `constant`: at equal "
                    "distances. Only with `rate`",
        "trace": "a file, from the folder of pytest's configuration, with the time of each request",
        "requests": "number of requests of a load",
        "duration": "time in which requests are sent, such as `30s`",
        "max_errors": "the share of requests that may fail before the load is void. Default: `1%`; "
                      "any, if the test has `error_rate` or `goodput`",
        "over_saturated": "what a server that can't keep up makes of this load: `note` and `warn` "
                          "judge it anyway. Default: `invalid`, or what `perf.fitness` says",
    },
    "goodput": {
        "first_token": "the longest time to the first token, from when the request was due",
        "time_per_token": "the longest time per output token after the first",
        "first_answer_token": "the longest time to the first token after any reasoning",
        "request_latency": "the longest time to the last token, from when the request was due",
    },
    "perf_metric": {"name": "name of the metric, [built in](metrics.md) or registered"},
    "gpu": {
        "layers": "how many layers must be on a GPU: a number or `all`",
        "device": "name of the GPU, or a part of it, such as `RTX 4090`; `None`: any",
    },
}  # fmt: skip


def argument_text(marker: str, argument: str) -> str:
    """Return what an argument means, as Markdown.

    Raises:
        KeyError: no text describes it.
    """
    return _OWN.get(marker, {}).get(argument) or _SHARED[argument]
