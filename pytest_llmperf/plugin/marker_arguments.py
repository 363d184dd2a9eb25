"""What the arguments of the markers mean, for the reference."""

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
#: Those of single markers.
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
