"""Replays one test's workload in one engine process: warm-up, then counted iterations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.environment.fitness import FitnessFinding, with_severities, worst_first
from pytest_llmperf.environment.telemetry_summary import TelemetrySummary
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import BASE, ProcessSample
from pytest_llmperf.measure.warmup import is_warm
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.timeline import Timeline


class Watch(Protocol):
    """Watches the machine while one test is replayed in one process.

    What it measures beside the generations are values by metric name, in base units;
    a metric that can't be told is left out.
    """

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return what was measured beside one counted iteration, as soon as it is over."""

    def whole(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:
        """Return what was measured beside all counted iterations together: one value a process."""

    def sample(self) -> str | None:
        """Look once more, between two replays.

        Return why the process is lost, if it is so clearly lost that going on only
        costs time; None otherwise.
        """

    def undefined(self) -> Mapping[str, str]:
        """Say why a metric that is measured beside the generations has no value, by its name."""

    def telemetry(self) -> TelemetrySummary | None:
        """Return what the GPUs did while the engine decoded; None where none is watched."""

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and say what was found; harmless when repeated."""


@dataclass(frozen=True)
class Step:
    """Where the measure stage is: told before each replay.

    ``process`` and ``pair`` count from 1; ``iteration`` is None while warming up.
    ``processes`` is how many are planned at least; ``arm`` is CANDIDATE or BASE, and
    ``pair`` None where nothing is compared.
    """

    process: int
    processes: int
    nodeid: str
    iteration: int | None
    iterations: int
    arm: str
    pair: int | None


@dataclass(frozen=True)
class Place:
    """Which process of the session a replay runs in, counted from 0."""

    process: int
    arm: str
    pair: int | None


class Replayer:
    """Replays workloads of a plan.

    Args:
        plan: what to do.
        watch: starts watching the machine, beside the engine of this client.
        on_step: told of every replay before it starts.
    """

    def __init__(
        self,
        plan: Plan,
        watch: Callable[[EngineClient], Watch],
        on_step: Callable[[Step], None],
    ) -> None:
        self._plan = plan
        self._watch = watch
        self._on_step = on_step
        #: Seconds spent inside generation so far, warm-up included.
        self.generating_seconds = 0.0

    def replay(
        self, client: EngineClient, place: Place, nodeid: str, workload: Workload
    ) -> ProcessSample:
        """Replay one test until it is warm and has its iterations, or is void.

        Raises:
            EngineError: the engine refused or failed a request, or the base does other
                work than was recorded.
        """
        watch = self._watch(client)
        try:
            return self._watched(client, place, nodeid, workload, watch)
        except BaseException:
            # What watches beside the engine must not outlive it.
            watch.stop()
            raise

    def _watched(
        self, client: EngineClient, place: Place, nodeid: str, workload: Workload, watch: Watch
    ) -> ProcessSample:
        plan = self._plan
        warmup: list[dict[str, float]] = []
        counted: list[list[Timeline]] = []
        rows: list[dict[str, float]] = []
        unlike: dict[str, FitnessFinding] = {}
        void: str | None = None
        while not void and not is_warm([row["end_to_end"] for row in warmup], plan.warmup_max):
            self._tell(place, nodeid, None)
            timelines, void = self._iterate(client, place, workload, unlike)
            warmup.append(compute_all(timelines))
            void = void or watch.sample()
        while not void and len(counted) < plan.iterations:
            self._tell(place, nodeid, len(counted) + 1)
            timelines, void = self._iterate(client, place, workload, unlike)
            counted.append(timelines)
            rows.append({**compute_all(timelines), **watch.measured(timelines)})
            void = void or watch.sample()
        if rows:
            rows[0].update(watch.whole(counted))
        findings = tuple(worst_first([*unlike.values(), *watch.stop()]))
        if void is None:
            void = next((str(f) for f in findings if f.severity == "invalid"), None)
        return ProcessSample(
            process=place.process,
            iterations=tuple(rows),
            warmup=tuple(warmup),
            findings=findings,
            void=void,
            arm=place.arm,
            pair=place.pair,
            pooled=_pooled([timeline for timelines in counted for timeline in timelines]),
            undefined=dict(watch.undefined()),
            telemetry=watch.telemetry(),
        )

    def _iterate(
        self,
        client: EngineClient,
        place: Place,
        workload: Workload,
        unlike: dict[str, FitnessFinding],
    ) -> tuple[list[Timeline], str | None]:
        """Replay a workload once, from an empty cache; return its timelines and why it is void.

        What was not the same work goes into ``unlike``, by check, also where it voids nothing.
        """
        client.reset()
        timelines = []
        for recorded in workload.requests:
            generation = client.request(recorded.replayed())
            timeline = generation.timeline
            timelines.append(timeline)
            if timeline.token_times:
                self.generating_seconds += timeline.token_times[-1] - timeline.t_start
            if place.arm == BASE and (other := recorded.other_work(generation)):
                # Nothing is wrong with the machine, and no repetition would mend it.
                raise EngineError(
                    f"other work than was recorded, so there is nothing to compare: {other.text}"
                )
            if found := recorded.unlike(generation):
                (found,) = with_severities([found], self._plan.fitness)
                unlike[found.name] = found
                # Without a token there is nothing to time, whatever the severity is set to.
                if found.severity == "invalid" or not timeline.token_times:
                    return timelines, str(found)
        return timelines, None

    def _tell(self, place: Place, nodeid: str, iteration: int | None) -> None:
        plan = self._plan
        self._on_step(
            Step(
                process=place.process + 1,
                processes=plan.processes * (2 if plan.paired else 1),
                nodeid=nodeid,
                iteration=iteration,
                iterations=plan.iterations,
                arm=place.arm,
                pair=None if place.pair is None else place.pair + 1,
            )
        )


def _pooled(timelines: Sequence[Timeline]) -> dict[str, tuple[float, ...]]:
    return {
        "inter_token": tuple(gap for timeline in timelines for gap in timeline.gaps()),
        "first_token": tuple(t.token_times[0] - t.t_start for t in timelines if t.token_times),
    }
