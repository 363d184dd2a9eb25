"""What two processes take turns by: whole iterations, or a few tokens of the same generation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from pytest_llmperf.measure.workload import Workload

#: ``iterations``: whole replays; ``tokens``: a batch of the prompt, or a few output tokens.
Turns = Literal["iterations", "tokens"]

#: Seconds of a turn of tokens: long against what threads spin after their last computation (some
#: milliseconds), short against the disturbances of a busy machine.
TURN_SECONDS = 0.1
#: Additional replays that end with the first token, for each whole one.
_MAX_PROMPT_REPLAYS = 3
#: Metrics that a replay which ends with the first token has.
PROMPT_METRICS = frozenset({"first_token", "prefill_tokens_per_sec"})
_BOTH_PARTS = "end_to_end"


def turn_tokens(workload: Workload, seconds_per_token: float) -> int:
    """Return the output tokens of a turn, such that the turns of a request are equally long."""
    steps = max((request.output_tokens - 1 for request in workload.requests), default=0)
    wanted = max(round(TURN_SECONDS / seconds_per_token), 1) if seconds_per_token > 0 else 1
    count = max(round(steps / wanted), 1)
    return max(-(-steps // count), 1)


def planned_replays(
    workload: Workload,
    warm: Mapping[str, float],
    iterations: int,
    open_metrics: Collection[str] | None,
) -> tuple[bool, ...]:
    """Return the replays in turns of tokens: for each whether it ends with the first token.

    A prompt of one batch can't be cut, so short prompts are evaluated more often instead.

    Args:
        workload: what is replayed.
        warm: metrics of a warm replay.
        iterations: whole replays, if any metric needs them.
        open_metrics: metrics that are not decided; None: all.
    """
    prompts = open_metrics is None or any(
        name in PROMPT_METRICS or name == _BOTH_PARTS for name in open_metrics
    )
    whole = open_metrics is None or any(name not in PROMPT_METRICS for name in open_metrics)
    more = _prompt_replays(workload, warm) if prompts else 0
    if not whole:
        return (True,) * iterations * (1 + more)
    return ((False,) + (True,) * more) * iterations


def _prompt_replays(workload: Workload, warm: Mapping[str, float]) -> int:
    """Return how many prompt evaluations take about as long as the decode that they go with."""
    # What a later request finds in the cache depends on the output before it.
    if any(one.request.cache == "keep" for one in workload.requests):
        return 0
    decode = warm.get("time_per_output_token", 0.0) * decode_steps(workload)
    prompt = warm.get("end_to_end", 0.0) - decode
    return min(round(decode / prompt), _MAX_PROMPT_REPLAYS) if prompt > 0 else 0


def decode_steps(workload: Workload) -> int:
    """Return the number of decode steps of all requests."""
    return sum(max(one.output_tokens - 1, 0) for one in workload.requests)
