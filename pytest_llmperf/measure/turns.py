"""Turns of two processes: by whole iterations, or by a few tokens of the same generation."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from pytest_llmperf.measure.process_sample import DECODE_METRICS, WHOLE
from pytest_llmperf.measure.workload import Workload

#: Kind of turns. ``iterations``: whole replays; ``tokens``: a prompt batch or a few output tokens.
Turns = Literal["iterations", "tokens"]

#: Part that is replayed in turns of tokens: everything; the prompt, up to the first token; or
#: decode, with the prompt's state restored from the previous replay.
Part = Literal["whole", "prompt", "decode"]

#: Seconds of a turn of tokens: long compared to how long threads spin after their last computation
#: (llama.cpp's: 8 ms), short compared to the disturbances of a busy machine.
TURN_SECONDS = 0.05
#: Seconds between two turns, in which spinning threads go to sleep.
SPIN_SECONDS = 0.01
#: Minimum seconds for which each side should take turns in a pair.
_MIN_SECONDS = 2.0
#: Maximum seconds of turns to make up for a slow start.
_MAX_WANTED_SECONDS = 6.0
#: Maximum number of additional replays that end with the first token, for each whole replay.
_MAX_PROMPT_REPLAYS = 2
#: Maximum number of repeats in turns of tokens.
_MAX_ITERATIONS = 100
#: Maximum number of repeats in turns of iterations, which are all stored with their metrics.
_MAX_WHOLE_ITERATIONS = 25
#: Metrics that a replay has even if it ends with the first token.
PROMPT_METRICS = frozenset({"first_token", "prefill_tokens_per_sec"})


def turn_tokens(workload: Workload, seconds_per_token: float) -> int:
    """Return the number of output tokens per turn that makes a request's turns equally long."""
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
    *,
    min_seconds: float,
    restores_prompt: bool = False,
) -> tuple[Part, ...]:
    """Return the part that each replay in turns of tokens consists of, in order.

    A prompt of one batch can't be cut into turns, so short prompts are evaluated more often.

    Args:
        workload: the workload to replay.
        step: seconds of a decode step.
        whole: seconds of a whole replay.
        iterations: minimum number of whole replays, if needed; short replays are repeated.
        open_metrics: undecided metrics; None: all.
        min_seconds: minimum seconds of all replays together.
        restores_prompt: whether only decode is needed, and both engines restore the prompt's state.
    """
    reads = open_metrics is None or any(
        name in PROMPT_METRICS or name == WHOLE for name in open_metrics
    )
    decodes = open_metrics is None or any(name not in PROMPT_METRICS for name in open_metrics)
    decode = step * decode_steps(workload)
    if restores_prompt:
        alone: tuple[Part, ...] = ("decode",)
        return alone * _repeats(decode, iterations, min_seconds)
    prompt = whole - decode
    more = _prompt_replays(workload, decode, prompt) if reads else 0
    first: Part = "whole" if decodes else "prompt"
    other: Part = "prompt"
    group = (first,) + (other,) * more
    seconds = prompt * len(group) + (decode if decodes else 0.0)
    return group * _repeats(seconds, iterations, min_seconds)


def turn_seconds(workload: Workload, whole: float, iterations: int, min_seconds: float) -> float:
    """Return the minimum seconds of each side's turns of tokens in a pair.

    Args:
        workload: the workload to replay.
        whole: seconds of a whole replay.
        iterations: minimum number of replays.
        min_seconds: minimum seconds of all replays together.
    """
    turns = max(round(whole / TURN_SECONDS), len(workload.requests))
    return (whole + turns * SPIN_SECONDS) * _repeats(whole, iterations, min_seconds)


def wanted_seconds(
    turns: Turns, starting: float, spare: float, minimum: float | None = None
) -> float:
    """Return the minimum seconds for which each side should take turns in a pair.

    That is as long as its process takes to start, within limits: more would over double the time
    of the pair, and with less most of it would be spent on starting.

    Args:
        turns: kind of turns that the sides take.
        starting: the test's share of the seconds that a process takes to start.
        spare: seconds that the budget leaves; turns of tokens take the minimum in any case.
        minimum: that minimum, seconds; None: the usual one.
    """
    minimum = _MIN_SECONDS if minimum is None else minimum
    wanted = min(max(starting, minimum), _MAX_WANTED_SECONDS, spare)
    return max(wanted, minimum) if turns == "tokens" else wanted


def whole_iterations(seconds: float, planned: int, min_seconds: float) -> int:
    """Return how many replays each process does in turns of iterations.

    Args:
        seconds: duration of a replay.
        planned: minimum number of replays.
        min_seconds: minimum seconds of all replays together.
    """
    return max(planned, min(_repeats(seconds, planned, min_seconds), _MAX_WHOLE_ITERATIONS))


def common_turns(kinds: Collection[Turns | None]) -> Turns | None:
    """Return the kind of turns both sides of a pair can take; None if one follows the other.

    ``kinds``: kind of turns that each side could take with a side like itself.
    """
    if not kinds or None in kinds:
        return None
    return "tokens" if set(kinds) == {"tokens"} else "iterations"


def needs_decode_alone(workload: Workload, open_metrics: Collection[str] | None) -> bool:
    """Whether only decode is undecided, and the workload's prompt state can be restored.

    The workload must be a single request: of several, each evicts the previous one's prompt.
    """
    if not open_metrics or not DECODE_METRICS.issuperset(open_metrics):
        return False
    return len(workload.requests) == 1 and workload.requests[0].can_keep_prompt


def _repeats(seconds: float, iterations: int, min_seconds: float) -> int:
    """Return how many replays of ``seconds`` each it takes to last ``min_seconds``."""
    needed = math.ceil(min_seconds / seconds) if seconds > 0 else 1
    return max(iterations, min(needed, _MAX_ITERATIONS))


def _prompt_replays(workload: Workload, decode: float, prompt: float) -> int:
    """Return how many prompt evaluations take about as long as one decode."""
    # What a later request finds in the cache depends on the output before it.
    if any(recorded.request.cache == "keep" for recorded in workload.requests):
        return 0
    return min(round(decode / prompt), _MAX_PROMPT_REPLAYS) if prompt > 0 else 0


def decode_steps(workload: Workload) -> int:
    """Return the number of decode steps of all requests."""
    return sum(max(recorded.output_tokens - 1, 0) for recorded in workload.requests)
