"""The server simulator's ``/metrics``, in the dialect of each server.

vLLM and SGLang write their metrics with prometheus_client, so it is used here too. As on real
servers, some of the metrics are read by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

DIALECTS = ("vllm", "vllm_old", "sglang", "llama_cpp", "llama_cpp_old")


@dataclass
class Tally:
    """A server's own counts.

    Attributes:
        running, waiting: current numbers of requests.
        kv_use: share of the KV cache in use.
        preemptions, prompt_tokens, cached_tokens, generated_tokens: totals since the server
            started; ``prompt_tokens`` includes cached tokens.
    """

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    preemptions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0


def metrics_of(tally: Tally, dialect: str) -> str:
    """Return the text of ``/metrics``."""
    write = {"vllm": _vllm, "vllm_old": _vllm_old, "sglang": _sglang}
    if dialect in write:
        registry = CollectorRegistry()
        write[dialect](tally, registry)
        return generate_latest(registry).decode()
    return _llama_cpp(tally, is_old=dialect == "llama_cpp_old")


class _Writer:
    """Writes series that all have the same labels."""

    def __init__(self, registry: CollectorRegistry, **labels: str) -> None:
        self._registry, self._labels = registry, labels

    def gauge(self, name: str, value: float) -> None:
        Gauge(name, name, [*self._labels], registry=self._registry).labels(**self._labels).set(
            value
        )

    def counter(self, name: str, value: float) -> None:
        made = Counter(name, name, [*self._labels], registry=self._registry)
        made.labels(**self._labels).inc(value)

    def times(self, name: str) -> None:
        made = Histogram(name, name, [*self._labels], registry=self._registry)
        made.labels(**self._labels).observe(0.1)


def _vllm(tally: Tally, registry: CollectorRegistry) -> None:
    to = _Writer(registry, model_name="simulated", engine="0")
    to.gauge("vllm:num_requests_running", tally.running)
    to.gauge("vllm:num_requests_waiting", tally.waiting)
    to.gauge("vllm:num_requests_waiting_by_reason", 7)
    to.gauge("vllm:kv_cache_usage_perc", tally.kv_use)
    to.counter("vllm:num_preemptions", tally.preemptions)
    to.counter("vllm:prompt_tokens", tally.prompt_tokens)
    to.counter("vllm:prompt_tokens_cached", tally.cached_tokens)
    to.counter("vllm:generation_tokens", tally.generated_tokens)
    # vLLM looks up waiting requests at each step, and counts every lookup.
    to.counter("vllm:prefix_cache_queries", 30 * tally.prompt_tokens)
    to.counter("vllm:prefix_cache_hits", 30 * tally.cached_tokens)
    to.times("vllm:time_to_first_token_seconds")
    to.times("vllm:iteration_tokens_total")


def _vllm_old(tally: Tally, registry: CollectorRegistry) -> None:
    to = _Writer(registry, model_name="simulated")
    to.gauge("vllm:num_requests_running", tally.running)
    to.gauge("vllm:num_requests_waiting", tally.waiting)
    to.gauge("vllm:gpu_cache_usage_perc", tally.kv_use)
    to.gauge("vllm:cpu_cache_usage_perc", 0.9)
    to.counter("vllm:num_preemptions_total", tally.preemptions)
    to.counter("vllm:prompt_tokens_total", tally.prompt_tokens)
    to.counter("vllm:generation_tokens_total", tally.generated_tokens)
    to.counter("vllm:gpu_prefix_cache_queries", tally.prompt_tokens)
    to.counter("vllm:gpu_prefix_cache_hits", tally.cached_tokens)


def _sglang(tally: Tally, registry: CollectorRegistry) -> None:
    to = _Writer(registry, model_name="simulated", engine_type="unified", tp_rank="0", pp_rank="0")
    to.gauge("sglang:num_running_reqs", tally.running)
    to.gauge("sglang:num_queue_reqs", tally.waiting)
    to.gauge("sglang:num_running_reqs_offline_batch", 3)
    to.gauge("sglang:token_usage", tally.kv_use)
    to.gauge("sglang:cache_hit_rate", 0.99)
    to.gauge("sglang:num_retracted_reqs", 5)
    to.counter("sglang:prompt_tokens", tally.prompt_tokens)
    to.counter("sglang:generation_tokens", tally.generated_tokens)
    # These two appear with their first event.
    if tally.preemptions:
        to.counter("sglang:num_retracted_requests", tally.preemptions)
    if tally.cached_tokens:
        to.counter("sglang:cached_tokens", tally.cached_tokens)
    to.times("sglang:time_to_first_token_seconds")


def _llama_cpp(tally: Tally, *, is_old: bool) -> str:
    values = [
        ("prompt_tokens_total", "counter", tally.prompt_tokens - tally.cached_tokens),
        ("tokens_predicted_total", "counter", tally.generated_tokens),
        ("tokens_predicted_seconds_total", "counter", 1.5),
        ("requests_processing", "gauge", tally.running),
        ("requests_deferred", "gauge", tally.waiting),
    ]
    if is_old:
        values.append(("kv_cache_usage_ratio", "gauge", tally.kv_use))
    else:
        values.append(("prompt_tokens_cached_total", "counter", tally.cached_tokens))
    return "".join(
        f"# HELP llamacpp:{name} {name}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
        for name, kind, value in values
    )
