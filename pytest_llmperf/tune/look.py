"""A first look at a configuration: does it load, how long does a replay take, how much memory."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_llmperf.diagnosis.load_failure import memory_failure, why_not_loaded
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.machine.free_memory import peak_memory
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run
from pytest_llmperf.session.measuring import turns_beside

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.measure.turns import Turns
    from pytest_llmperf.session.machine_watch import WatchSettings
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.tune.result import Outcome

#: A request may take so many times as long as the best point's, and at least so many seconds.
_PATIENCE, _LEAST_SECONDS = 6.0, 10.0
#: A first replay that is slower or faster than the other's by this factor is repeated.
FAR = 2.0


class LookError(Exception):
    """A configuration that can't be measured.

    Attributes:
        outcome: what became of it.
        reason: why, in one sentence.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.reason = reason


@dataclass(frozen=True)
class FirstLook:
    """What a process of a configuration showed.

    Attributes:
        info: what it loaded.
        start_seconds: to start and load.
        seconds: the fastest replay of all tests.
        longest: its longest request.
        values: metrics of that replay, by test.
        memory: peak bytes of its process; 0 if unknown.
        turns: what it can take turns by with another process beside it.
    """

    info: EngineInfo
    start_seconds: float
    seconds: float
    longest: float
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    memory: int = 0
    turns: Turns | None = None


def look(
    spec: LaunchSpec,
    tests: Sequence[RecordedTest],
    watch: WatchSettings,
    turns: str,
    best: FirstLook | None = None,
) -> FirstLook:
    """Start a configuration once and replay the tests, twice where it is far from the best.

    Args:
        spec: how it is started.
        tests: what is replayed.
        watch: settings of the machine's watch.
        turns: as ``perf.turns``.
        best: the look at the best point so far; None for the first one.

    Raises:
        LookError: it can't be loaded, or does other work.
    """
    if best is not None:
        patience = max(_PATIENCE * best.longest, _LEAST_SECONDS)
        spec = replace(spec, generation_timeout=min(spec.generation_timeout, patience))
    began = time.monotonic()
    try:
        client = EngineClient.start(spec)
    except EngineError as error:
        raise _not_loaded(error) from None
    try:
        start_seconds = time.monotonic() - began
        found = _replayed(client, tests, start_seconds)
        if best is None or abs(math.log(found.seconds / best.seconds)) > math.log(FAR):
            again = _replayed(client, tests, start_seconds)
            found = min(found, again, key=lambda one: one.seconds)
        found = replace(
            found, memory=peak_memory(client.processes), turns=turns_beside(watch, turns, client)
        )
    except EngineGoneError as error:
        client.kill()
        text = str(error).splitlines()[0]
        if best is not None and "gave no answer" in text:
            raise LookError(
                "lost", f"a request took over {spec.generation_timeout:.3g} s: {_times(best)}"
            ) from None
        raise LookError("failed", why_not_loaded(str(error))) from None
    except EngineError as error:
        client.close()
        raise LookError("unsupported", str(error).splitlines()[0]) from None
    except BaseException:
        client.kill()
        raise
    client.close()
    return found


def _times(best: FirstLook) -> str:
    return f"the best point's longest took {best.longest:.3g} s"


def _replayed(
    client: EngineClient, tests: Sequence[RecordedTest], start_seconds: float
) -> FirstLook:
    values: dict[str, Mapping[str, float]] = {}
    seconds, longest = 0.0, 0.0
    for test in tests:
        client.reset()
        timelines = []
        for recorded in test.workload.requests:
            generation = client.request(recorded.replayed())
            if other := recorded.other_work(generation):
                raise LookError("unsupported", f"its work is not the same: {other.text}")
            timelines.append(generation.timeline)
            took = generation.timeline.token_times[-1] - generation.timeline.t_start
            seconds, longest = seconds + took, max(longest, took)
        values[test.nodeid] = compute_all(Run.in_order(timelines))
    return FirstLook(client.info, start_seconds, max(seconds, 1e-9), longest, values)


def _not_loaded(error: EngineError) -> LookError:
    text = str(error)
    if memory_failure(text) is not None:
        return LookError("does not fit", why_not_loaded(text))
    reason, _, hint = text.partition("\nhint: ")
    first = reason.splitlines()[0]
    if isinstance(error, EngineLoadError):
        return LookError("unsupported", f"{first}: {hint.splitlines()[0]}" if hint else first)
    return LookError("failed", first)
