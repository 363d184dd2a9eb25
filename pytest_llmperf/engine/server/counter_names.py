"""Names of servers' counters at ``/metrics``, old and new.

Sources: vLLM's vllm/v1/metrics/loggers.py and, before it, vllm/engine/metrics.py; SGLang's
python/sglang/srt/observability/metrics_collector.py (before: srt/metrics/collector.py);
llama.cpp's tools/server/server-context.cpp (before: examples/server/server.cpp).

Left out on purpose: gauges that hold only a rate of the last batches
(``sglang:cache_hit_rate``, ``vllm:gpu_prefix_cache_hit_rate``), and ``sglang:num_retracted_reqs``,
the number of currently retracted requests.
"""

from __future__ import annotations

from typing import NamedTuple


class Dialect(NamedTuple):
    """Names of one server's counters. The first published name of each counter is used.

    Attributes:
        server: the server's name in messages.
        running, waiting: requests computed and queued now.
        kv_use: share of the KV cache in use.
        preemptions: requests that had to give up their place in the KV cache.
        prompt_tokens: tokens of prompts.
        generated_tokens: output tokens.
        cache: pairs of counters: prompt tokens that a cache served, and all prompt tokens. The
            first published pair is used.
        leaves_out_cached: whether ``prompt_tokens`` excludes tokens that a cache served.
    """

    server: str
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_use: tuple[str, ...]
    preemptions: tuple[str, ...]
    prompt_tokens: tuple[str, ...]
    generated_tokens: tuple[str, ...]
    cache: tuple[tuple[str, str], ...]
    leaves_out_cached: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All names, each once."""
        groups = (
            *(self.running, self.waiting, self.kv_use, self.preemptions),
            *(self.prompt_tokens, self.generated_tokens),
            *self.cache,
        )
        return tuple(dict.fromkeys(name for group in groups for name in group))


DIALECTS = (
    Dialect(
        "vLLM",
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        kv_use=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        preemptions=("vllm:num_preemptions_total",),
        prompt_tokens=("vllm:prompt_tokens_total",),
        generated_tokens=("vllm:generation_tokens_total",),
        # The prefix_cache counters come last: a request that waits for room is looked up at
        # each step, and they count each time.
        cache=(
            ("vllm:prompt_tokens_cached_total", "vllm:prompt_tokens_total"),
            ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
            ("vllm:gpu_prefix_cache_hits_total", "vllm:gpu_prefix_cache_queries_total"),
        ),
    ),
    Dialect(
        "SGLang",
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_use=("sglang:token_usage",),
        preemptions=("sglang:num_retracted_requests_total", "sglang:num_retracted_reqs_total"),
        prompt_tokens=("sglang:prompt_tokens_total",),
        generated_tokens=("sglang:generation_tokens_total",),
        cache=(("sglang:cached_tokens_total", "sglang:prompt_tokens_total"),),
    ),
    Dialect(
        "llama.cpp",
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_use=("llamacpp:kv_cache_usage_ratio",),
        preemptions=(),
        prompt_tokens=("llamacpp:prompt_tokens_total",),
        generated_tokens=("llamacpp:tokens_predicted_total",),
        cache=(("llamacpp:prompt_tokens_cached_total", "llamacpp:prompt_tokens_total"),),
        leaves_out_cached=True,
    ),
)

#: Labels of processes that compute the same request together; each may publish its own series.
SAME_REQUEST = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "moe_dp_rank", "pid"})
#: SGLang breaks a total down by this label in additional series; the total's own label is empty.
BROKEN_DOWN_BY = "priority"
