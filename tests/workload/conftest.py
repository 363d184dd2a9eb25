"""Applications as engines, and workloads recorded from them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.request import Request, build_request
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Rounds, Step, Undecided
from pytest_llmperf.measure.samples import BASE, CANDIDATE, Measurement
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.measure.turns import Turns
from pytest_llmperf.measure.workload import RecordedRequest, Recorder, Workload
from pytest_llmperf.timeline import Timeline

#: Four tokens for any prompt; a test that needs more brings its own application.
ECHO = """
    def answer(prompt):
        yield from ("a", "b", "c", "d")
"""


#: Settings of ``perf`` that a test may change.
MEASURING = ("processes", "iterations", "warmup_max", "fitness")


class Stage:
    """A measure stage over an application or two, with a scripted machine around it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.steps: list[Step] = []
        self.pids: list[int] = []
        #: Roles of the sides whose processes were started, in order.
        self.roles: list[str] = []
        #: Findings of the machine watch, window by window; none once they are used up.
        self.findings: list[list[FitnessFinding]] = []
        #: Process ids of the engines that the watch was started for.
        self.watched: list[int] = []
        #: How often the watch was asked to look between two replays.
        self.looks = 0
        #: What it finds then, if the process is already lost.
        self.lost: FitnessFinding | None = None
        #: The CPU's clock in each window, in order; unknown once they are used up.
        self.clocks: list[float | None] = []
        #: Called before each process; returns the seconds that it waited.
        self.before: Callable[[Turns | None], float] = lambda _: 0.0
        #: The unit by which a process could take turns with another one.
        self.turns: Callable[[EngineClient], Turns | None] = lambda _: None
        #: Changes a side, such as to one whose tests have engine settings of their own.
        self.settled: Callable[[Side], Side] = lambda side: side
        self._started: list[EngineClient] = []

    def workload(self, *prompts: str, tokens: int = 4) -> Workload:
        """Return what a test that sent these prompts would have recorded."""
        return Workload(
            tuple(
                RecordedRequest(build_request(prompt=prompt, max_tokens=None), (), None, tokens)
                for prompt in prompts
            )
        )

    def plan(self, workloads: dict[str, Workload], **changes: Any) -> Plan:
        most = changes.pop("most", 2)
        defaults = {"processes": 2, "iterations": 3, "warmup_max": 2}
        settings = {name: changes.pop(name) for name in MEASURING if name in changes}
        perf = PerfConfig().model_copy(
            update={"max_processes": most, "max_pairs": most, **defaults, **settings}
        )
        return Plan(
            workloads=workloads,
            perf=perf,
            **{
                "recorded_seconds": dict.fromkeys(workloads, 0.1),
                "start_seconds": 0.1,
                "budget": 600.0,
                "seed": 1,
                **changes,
            },
        )

    def run(
        self,
        workloads: dict[str, Workload],
        source: str = ECHO,
        *,
        base: str | None = None,
        undecided: Undecided | None = None,
        **changes: Any,
    ) -> Measurement:
        """Measure the workloads on the application ``source``, against ``base`` if given."""
        sides = [self._side(CANDIDATE, "candidate (config.yaml)", source)]
        if base is not None:
            sides.append(self._side(BASE, "base (other.yaml)", base))
        stage = self

        class Watch:
            def __init__(self, client: EngineClient) -> None:
                stage.watched.append(client.pid)

            def iteration_metrics(self, timelines: Sequence[Timeline]) -> dict[str, float]:
                return {"gpu_memory": float(len(timelines))}

            def record_turn(self, timelines: Sequence[Timeline]) -> None:
                pass

            def overall_metrics(self, iterations: Sequence[Sequence[Timeline]]) -> dict[str, float]:
                return {"energy_per_token": float(len(iterations))}

            def missing_reasons(self) -> dict[str, str]:
                return {}

            def telemetry(self) -> None:
                return None

            def cpu_mhz(self) -> float | None:
                return stage.clocks.pop(0) if stage.clocks else None

            def sample(self) -> FitnessFinding | None:
                stage.looks += 1
                return stage.lost

            def stop(self) -> list[FitnessFinding]:
                return stage.findings.pop(0) if stage.findings else []

        plan = self.plan(workloads, paired=base is not None, **changes)
        self.rounds = Rounds(
            plan,
            sides,
            Watch,
            self.steps.append,
            undecided,
            before=self.before,
            possible_turns=self.turns,
        )
        return self.rounds.run()

    def _side(self, role: str, name: str, source: str) -> Side:
        (self._folder / f"{role}_app.py").write_text(textwrap.dedent(source))
        spec = LaunchSpec(
            "app", {"target": f"{role}_app:answer"}, import_paths=(str(self._folder),)
        )

        def start(other: LaunchSpec | None = None) -> EngineClient:
            client = EngineClient.start(other or spec)
            self._started.append(client)
            self.pids.append(client.pid)
            self.roles.append(role)
            return client

        return self.settled(Side(role, name, start))

    def close(self) -> None:
        for client in self._started:
            client.kill()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture
def ask() -> Callable[..., Request]:
    return lambda **options: build_request(**{"max_tokens": 4, "prompt": "hi", **options})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
