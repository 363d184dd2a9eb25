"""What two processes take turns by: whole iterations, or a few tokens of the same generation."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from pytest_llmperf.measure.process_sample import DECODE_METRICS, WHOLE
from pytest_llmperf.measure.workload import Workload

#: ``iterations``: whole replays; ``tokens``: a batch of the prompt, or a few output tokens.
Turns = Literal["iterations", "tokens"]

#: What a replay in turns of tokens does: everything; the prompt, up to the first token; or decode,
#: with the prompt's state restored from the replay before.
Part = Literal["whole", "prompt", "decode"]

#: Seconds of a turn of tokens: long against what threads spin after their last computation (8 ms
#: of llama.cpp's), short against the disturbances of a busy machine.
TURN_SECONDS = 0.05
#: Seconds between two turns, in which such threads go to sleep.
SPIN_SECONDS = 0.01
#: Seconds that either side should take turns for in each pair, at least.
_MIN_SECONDS = 2.0
#: Seconds of turns that a slow start asks for, at most.
_MAX_WANTED_SECONDS = 6.0
#: Additional replays that end with the first token, for each whole one.
_MAX_PROMPT_REPLAYS = 2
#: Repeats in turns of tokens, at most.
_MAX_ITERATIONS = 100
#: The same in turns of iterations, which are all stored with their metrics.
_MAX_WHOLE_ITERATIONS = 25
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
    *,
    wanted: float,
    restores_prompt: bool = False,
) -> tuple[Part, ...]:
    """Return the replays in turns of tokens: what each of them does.

    A prompt of one batch can't be cut, so short prompts are evaluated more often instead.

    Args:
        workload: what is replayed.
        step: seconds of a decode step.
        whole: seconds of a replay.
        iterations: fewest whole replays, if any metric needs them; short ones are repeated.
        open_metrics: metrics that are not decided; None: all.
        wanted: seconds that they should take together, at least.
        restores_prompt: ``needs_decode_alone``, and both engines restore the prompt's state.
    """
    reads = open_metrics is None or any(
        name in PROMPT_METRICS or name == WHOLE for name in open_metrics
    )
    decodes = open_metrics is None or any(name not in PROMPT_METRICS for name in open_metrics)
    decode = step * decode_steps(workload)
    if restores_prompt:
        alone: tuple[Part, ...] = ("decode",)
        return alone * _repeats(decode, iterations, wanted)
    prompt = whole - decode
    more = _prompt_replays(workload, decode, prompt) if reads else 0
    first: Part = "whole" if decodes else "prompt"
    other: Part = "prompt"
    group = (first,) + (other,) * more
    seconds = prompt * len(group) + (decode if decodes else 0.0)
    return group * _repeats(seconds, iterations, wanted)


def turn_seconds(workload: Workload, whole: float, iterations: int, wanted: float) -> float:
    """Return the seconds that either side takes for its turns of tokens in a pair, at least.

    Args:
        workload: what is replayed.
        whole: seconds of a replay.
        iterations: fewest replays.
        wanted: seconds that they should take together, at least.
    """
    turns = max(round(whole / TURN_SECONDS), len(workload.requests))
    return (whole + turns * SPIN_SECONDS) * _repeats(whole, iterations, wanted)


def wanted_seconds(turns: Turns, starting: float, spare: float) -> float:
    """Return how long either side should take turns for in a pair, at least.

    As long as its process takes to start, within limits: that at most doubles the pair, and less
    would leave most of it to starting.

    Args:
        turns: what the sides take turns by.
        starting: the test's share of the seconds that a process takes to start.
        spare: seconds that the budget leaves; turns of tokens take the least in any case.
    """
    wanted = min(max(starting, _MIN_SECONDS), _MAX_WANTED_SECONDS, spare)
    return max(wanted, _MIN_SECONDS) if turns == "tokens" else wanted


def whole_iterations(seconds: float, planned: int, wanted: float) -> int:
    """Return how often replays of so many seconds are repeated in turns of iterations.

    Args:
        seconds: of a replay.
        planned: fewest replays.
        wanted: seconds that they should take together, at least.
    """
    return max(planned, min(_repeats(seconds, planned, wanted), _MAX_WHOLE_ITERATIONS))


def common_turns(kinds: Collection[Turns | None]) -> Turns | None:
    """Return what both sides of a pair can take turns by; None if one follows the other.

    ``kinds``: what either side could take turns by, with one like it.
    """
    if not kinds or None in kinds:
        return None
    return "tokens" if set(kinds) == {"tokens"} else "iterations"


def needs_decode_alone(workload: Workload, open_metrics: Collection[str] | None) -> bool:
    """Whether only decode is undecided, of a workload whose prompt's state can be restored.

    That takes a single request: of several, each would evict the prompt of the one before.
    """
    if not open_metrics or not DECODE_METRICS.issuperset(open_metrics):
        return False
    return len(workload.requests) == 1 and workload.requests[0].can_keep_prompt


def _repeats(seconds: float, iterations: int, wanted: float) -> int:
    """Return how often replays of so many seconds are repeated to take ``wanted`` together."""
    needed = math.ceil(wanted / seconds) if seconds > 0 else 1
    return max(iterations, min(needed, _MAX_ITERATIONS))


def _prompt_replays(workload: Workload, decode: float, prompt: float) -> int:
    """Return how many prompt evaluations take about as long as the decode that they go with."""
    # What a later request finds in the cache depends on the output before it.
    if any(one.request.cache == "keep" for one in workload.requests):
        return 0
    return min(round(decode / prompt), _MAX_PROMPT_REPLAYS) if prompt > 0 else 0


def decode_steps(workload: Workload) -> int:
    """Return the number of decode steps of all requests."""
    return sum(max(one.output_tokens - 1, 0) for one in workload.requests)
