"""First look at a configuration: whether it loads, how long a replay takes, how much memory."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmperf.diagnosis.load_failure import memory_failure, why_not_loaded
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import LOG_LINE, EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import with_severities
from pytest_llmperf.machine.free_memory import peak_memory
from pytest_llmperf.measure.fresh_model import read_model_again
from pytest_llmperf.measure.load_run import send_load, warm_up_load
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run
from pytest_llmperf.session.measuring import possible_turns

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.measure.turns import Turns
    from pytest_llmperf.session.machine_watch import WatchSettings
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.tune.result import Outcome

#: A request may take this many times the best point's longest, and at least this many seconds.
_PATIENCE, _LEAST_SECONDS = 6.0, 10.0
#: How many times a load is sent at most, if it is void, and the seed of its arrivals.
_LOADS, _SEED = 2, 0
#: A first replay that differs from the best point's by more than this factor is repeated.
FAR = 2.0


class LookError(Exception):
    """Raised if a configuration can't be measured.

    Attributes:
        outcome: outcome of the point.
        reason: why it can't be measured, in one sentence.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.reason = reason


@dataclass(frozen=True)
class FirstLook:
    """Measurements of one process of a configuration.

    Attributes:
        start_seconds: time to start and load.
        seconds: time of the fastest replay of all tests.
        longest: time of the longest request in that replay, seconds.
        values: metrics of that replay, by test.
        memory: peak bytes of the process; 0 if unknown.
        turns: the unit in which it can take turns with a second process; None: it can't.
    """

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
    perf: PerfConfig,
    best: FirstLook | None = None,
) -> FirstLook:
    """Start a configuration once and replay the tests, twice if it is far from the best point.

    A load is sent once, after a warm-up load.

    Args:
        spec: how the engine is started.
        tests: recorded tests to replay.
        watch: settings of the machine's watch.
        perf: settings: turns, and what makes a load void.
        best: the look at the best point so far; None if this is the look at that point.

    Raises:
        LookError: it can't be loaded, or its work differs from the recorded work.
    """
    if best is not None:
        patience = max(_PATIENCE * best.longest, _LEAST_SECONDS)
        spec = replace(spec, generation_timeout=min(spec.generation_timeout, patience))
    read_model_again(spec)
    began = time.monotonic()
    try:
        client = EngineClient.start(spec)
    except EngineError as error:
        raise _not_loaded(error, is_server=bool(spec.config.get("start"))) from None
    try:
        start_seconds = time.monotonic() - began
        replay = partial(_replayed, client, tests, start_seconds, perf, is_first=best is None)
        result, all_loads = replay(), all(test.workload.load.is_load for test in tests)
        is_far = best is not None and abs(math.log(result.seconds / best.seconds)) > math.log(FAR)
        if is_far or (best is None and not all_loads):
            result = min(result, replay(), key=lambda seen: seen.seconds)
        result = replace(
            result,
            memory=peak_memory(client.processes),
            turns=possible_turns(watch, perf.turns, client),
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
    return result


def _times(best: FirstLook) -> str:
    return f"the best point's longest took {best.longest:.3g} s"


def _replayed(
    client: EngineClient,
    tests: Sequence[RecordedTest],
    start_seconds: float,
    perf: PerfConfig,
    *,
    is_first: bool,
) -> FirstLook:
    values: dict[str, Mapping[str, float]] = {}
    seconds, longest = 0.0, 0.0
    for test in tests:
        if test.workload.load.is_load:
            run = _load(client, test, perf, is_first=is_first)
        else:
            run = _in_order(client, test)
        durations = [timeline.token_times[-1] - timeline.t_start for timeline in run]
        seconds += run.seconds if test.workload.load.is_load else sum(durations)
        longest = max(longest, *durations)
        values[test.nodeid] = compute_all(run)
    return FirstLook(start_seconds, max(seconds, 1e-9), longest, values)


def _in_order(client: EngineClient, test: RecordedTest) -> Run:
    client.reset()
    timelines = []
    for recorded in test.workload.requests:
        generation = client.request(recorded.replayed())
        if other := recorded.work_difference(generation):
            raise LookError("unsupported", f"it did different work: {other.text}")
        timelines.append(generation.timeline)
    return Run.in_order(timelines)


def _load(client: EngineClient, test: RecordedTest, perf: PerfConfig, *, is_first: bool) -> Run:
    """Send a load, at the same times for every configuration, and once more if it was void.

    If ``is_first``, a server that can't keep up is accepted: other settings may do better.
    """
    warm_up_load(client, test.workload, _SEED)
    void = ""
    for _ in range(_LOADS):
        run, _figures, findings = send_load(client, test.workload, _SEED, {})
        void = next(
            (
                fault.text
                for fault in with_severities(findings, perf.fitness)
                if fault.severity == "invalid" and not (is_first and CHECKS[fault.name].needs_both)
            ),
            "" if run.timelines else "no request was answered",
        )
        if not void:
            return run
    raise LookError("failed", void)


def _not_loaded(error: EngineError, *, is_server: bool) -> LookError:
    text = str(error)
    if memory_failure(text) is not None:
        return LookError("does not fit", why_not_loaded(text))
    reason, _, hint = text.partition("\nhint: ")
    first = reason.splitlines()[0]
    if is_server and (said := [line for line in reason.splitlines() if line.startswith(LOG_LINE)]):
        # The last line of a server's output says why it refuses an argument.
        return LookError("unsupported", f"{first}: {said[-1].removeprefix(LOG_LINE)}")
    if isinstance(error, EngineLoadError):
        return LookError("unsupported", f"{first}: {hint.splitlines()[0]}" if hint else first)
    return LookError("failed", first)
