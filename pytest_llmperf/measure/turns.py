"""What two processes take turns by: whole iterations, or a few tokens of the same generation."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from pytest_llmperf.measure.process_sample import WHOLE
from pytest_llmperf.measure.workload import Workload

#: ``iterations``: whole replays; ``tokens``: a batch of the prompt, or a few output tokens.
Turns = Literal["iterations", "tokens"]

#: Seconds of a turn of tokens: long against what threads spin after their last computation (8 ms
#: of llama.cpp's), short against the disturbances of a busy machine.
TURN_SECONDS = 0.05
#: Seconds between two turns, in which such threads go to sleep.
SPIN_SECONDS = 0.01
#: Seconds that either side takes turns for, at least, in each pair: about as long as starting and
#: warming up a process take.
_MIN_SECONDS = 2.0
#: Additional replays that end with the first token, for each whole one.
_MAX_PROMPT_REPLAYS = 2
#: A replay of no time at all is not repeated for ever.
_MAX_ITERATIONS = 100
#: Metrics that a replay which ends with the first token has.
PROMPT_METRICS = frozenset({"first_token", "prefill_tokens_per_sec"})


def turn_tokens(workload: Workload, seconds_per_token: float) -> int:
    """Return the output tokens of a turn, such that the turns of a request are equally long."""
    steps = max((request.output_tokens - 1 for request in workload.requests), default=0)
    wanted = max(round(TURN_SECONDS / seconds_per_token), 1) if seconds_per_token > 0 else 1
    count = max(round(steps / wanted), 1)
    return max(-(-steps // count), 1)


def planned_replays(
    workload: Workload,
    step: float,
    whole: float,
    iterations: int,
    open_metrics: Collection[str] | None,
) -> tuple[bool, ...]:
    """Return the replays in turns of tokens: for each whether it ends with the first token.

    A prompt of one batch can't be cut, so short prompts are evaluated more often instead.

    Args:
        workload: what is replayed.
        step: seconds of a decode step.
        whole: seconds of a replay.
        iterations: fewest whole replays, if any metric needs them; short ones are repeated.
        open_metrics: metrics that are not decided; None: all.
    """
    reads = open_metrics is None or any(
        name in PROMPT_METRICS or name == WHOLE for name in open_metrics
    )
    decodes = open_metrics is None or any(name not in PROMPT_METRICS for name in open_metrics)
    decode = step * decode_steps(workload)
    prompt = whole - decode
    more = _prompt_replays(workload, decode, prompt) if reads else 0
    group = ((False,) if decodes else (True,)) + (True,) * more
    seconds = prompt * len(group) + (decode if decodes else 0.0)
    groups = math.ceil(_MIN_SECONDS / seconds) if seconds > 0 else 1
    return group * max(iterations, min(groups, _MAX_ITERATIONS))


def _prompt_replays(workload: Workload, decode: float, prompt: float) -> int:
    """Return how many prompt evaluations take about as long as the decode that they go with."""
    # What a later request finds in the cache depends on the output before it.
    if any(one.request.cache == "keep" for one in workload.requests):
        return 0
    return min(round(decode / prompt), _MAX_PROMPT_REPLAYS) if prompt > 0 else 0


def decode_steps(workload: Workload) -> int:
    """Return the number of decode steps of all requests."""
    return sum(max(one.output_tokens - 1, 0) for one in workload.requests)
