"""Replays workloads in rounds: one fresh engine process a round, all tests in random order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineGoneError
from pytest_llmperf.environment.fitness import FitnessFinding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import Measurement, ProcessSample, TestSamples
from pytest_llmperf.measure.warmup import is_warm
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.metrics import compute_all

#: How many processes beyond the planned ones may replace samples that were void.
SPARE_PROCESSES = 2


class Watch(Protocol):
    """Watches the machine while one test is replayed in one process."""

    def sample(self) -> None:
        """Look once more, between two replays."""

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and say what was found."""


@dataclass(frozen=True)
class Step:
    """Where the measure stage is: told before each replay.

    ``process`` counts from 1; ``iteration`` is None while warming up.
    """

    process: int
    processes: int
    nodeid: str
    iteration: int | None
    iterations: int


class Rounds:
    """One measure stage.

    Args:
        plan: what to do.
        start: starts one fresh engine process.
        watch: starts watching the machine.
        on_step: told of every replay before it starts.
    """

    def __init__(
        self,
        plan: Plan,
        start: Callable[[], EngineClient],
        watch: Callable[[], Watch],
        on_step: Callable[[Step], None],
    ) -> None:
        self._plan = plan
        self._start = start
        self._watch = watch
        self._on_step = on_step
        self._tests = {nodeid: TestSamples() for nodeid in plan.workloads}
        self._began = time.monotonic()
        self._generating = 0.0
        self._started = 0

    def run(self) -> Measurement:
        """Measure until every test has its processes, or the budget or the spares end."""
        for nodeid, workload in self._plan.workloads.items():
            self._tests[nodeid].error = workload.unmeasurable()
        order = random.Random(self._plan.seed)
        for process in range(self._plan.processes + SPARE_PROCESSES):
            waiting = self._waiting()
            if not waiting:
                break
            order.shuffle(waiting)
            self._round(process, waiting)
        return Measurement(
            tests=self._tests,
            seed=self._plan.seed,
            seconds=time.monotonic() - self._began,
            generating_seconds=self._generating,
            processes=self._started,
        )

    def _waiting(self) -> list[str]:
        """Return the tests that still need a process."""
        return [
            nodeid
            for nodeid, samples in self._tests.items()
            if samples.error is None
            and not samples.budget_reached
            and len(samples.processes) < self._plan.processes
        ]

    def _round(self, process: int, waiting: list[str]) -> None:
        client: EngineClient | None = None
        try:
            for nodeid in waiting:
                samples = self._tests[nodeid]
                if time.monotonic() - self._began > self._plan.budget:
                    samples.budget_reached = True
                    continue
                try:
                    if client is not None and not client.alive:
                        client.close()
                        client = None
                    if client is None:
                        client = self._start()
                        self._started += 1
                    sample = self._replay(client, process, nodeid)
                except EngineGoneError as error:
                    samples.error = str(error)
                    client = None
                except EngineError as error:
                    samples.error = str(error)
                else:
                    (samples.voided if sample.void else samples.processes).append(sample)
        except BaseException:
            # Interrupted: there is no time to be polite to the engine.
            if client is not None:
                client.kill()
            raise
        if client is not None:
            client.close()

    def _replay(self, client: EngineClient, process: int, nodeid: str) -> ProcessSample:
        workload, plan = self._plan.workloads[nodeid], self._plan
        watch = self._watch()
        warmup: list[dict[str, float]] = []
        counted: list[dict[str, float]] = []
        void: str | None = None
        while not void and not is_warm([row["end_to_end"] for row in warmup], plan.warmup_max):
            self._tell(process, nodeid, None)
            values, void = self._iterate(client, workload)
            warmup.append(values)
        while not void and len(counted) < plan.iterations:
            self._tell(process, nodeid, len(counted) + 1)
            values, void = self._iterate(client, workload)
            counted.append(values)
            watch.sample()
        findings = tuple(watch.stop())
        if void is None:
            void = next((f.text for f in findings if f.severity == "invalid"), None)
        return ProcessSample(process, tuple(counted), tuple(warmup), findings, void)

    def _iterate(
        self, client: EngineClient, workload: Workload
    ) -> tuple[dict[str, float], str | None]:
        """Replay a workload once, from an empty cache; return its metrics and why it is void."""
        client.reset()
        timelines = []
        for recorded in workload.requests:
            generation = client.request(recorded.replayed())
            timeline = generation.timeline
            timelines.append(timeline)
            if timeline.token_times:
                self._generating += timeline.token_times[-1] - timeline.t_start
            if reason := recorded.void_reason(generation):
                return compute_all(timelines), reason
        return compute_all(timelines), None

    def _tell(self, process: int, nodeid: str, iteration: int | None) -> None:
        plan = self._plan
        self._on_step(Step(process + 1, plan.processes, nodeid, iteration, plan.iterations))
