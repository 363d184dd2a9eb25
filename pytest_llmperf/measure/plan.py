"""The plan of a measure stage, and its expected duration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.measure.replication import FRESH_PROCESS, ReplicationUnit
from pytest_llmperf.measure.turns import Turns, turn_seconds, wanted_seconds, whole_iterations
from pytest_llmperf.measure.warmup import MIN_WARMUP
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.text import count, plural
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig


@dataclass(frozen=True)
class Plan:
    """Workloads, settings and budgets of a measure stage.

    Attributes:
        workloads: each test's workload, by node id.
        recorded_seconds: duration of each workload's generations while recorded, by node id.
        start_seconds: time for an engine process to start and load, as measured while recording.
        perf: settings: processes, iterations, warm-up, turns, severities.
        seed: seed of the random order.
        budget: seconds that the stage may take.
        paired: whether two sides are compared.
        test_budgets: maximum seconds of replaying a test, by node id; other
            tests have no separate limit.
        processes_per_round: number of processes per side that it takes to replay all tests once.
        whole_iterations_only: node ids of tests whose iterations must be whole: they take no turns
            of tokens.
        without_repeats: node ids of tests whose short replays are not repeated in turns, because
            they judge a share or a percentile of the replays.
        run_alone: node ids of tests whose processes always run one after the other, without turns.
        turns: kind of turns that pairs after the first one are expected to take.
        min_turn_seconds: minimum seconds of each side's turns in a pair; None: the usual minimum.
        unit: the unit of replication, which gives one sample.
    """

    workloads: dict[str, Workload]
    recorded_seconds: dict[str, float]
    start_seconds: float
    perf: PerfConfig
    seed: int
    budget: float
    paired: bool = False
    test_budgets: dict[str, float] = field(default_factory=dict)
    processes_per_round: int = 1
    whole_iterations_only: frozenset[str] = frozenset()
    without_repeats: frozenset[str] = frozenset()
    run_alone: frozenset[str] = frozenset()
    turns: Turns | None = None
    min_turn_seconds: float | None = None
    unit: ReplicationUnit = FRESH_PROCESS

    def iterations_of(
        self,
        nodeid: str,
        turns: Turns | None = None,
        seconds: float = math.inf,
        *,
        longest: bool = False,
    ) -> int:
        """Return how many whole iterations of a test a process replays.

        One for a load, which consists of many requests already, and one before turns of tokens.
        In turns of iterations, short replays are repeated.

        Args:
            nodeid: node id of the test.
            turns: kind of turns that its processes take.
            seconds: duration of a replay, if known.
            longest: whether to take turns for as long as after a slow start.
        """
        if self.workloads[nodeid].load.is_load or turns == "tokens":
            return 1
        planned = self.perf.iterations
        if turns is None:
            return planned
        wanted = self.wanted_turns(nodeid, turns, longest=longest)
        return whole_iterations(seconds, planned, wanted)

    def wanted_turns(self, nodeid: str, turns: Turns, *, longest: bool = False) -> float:
        """Return for how many seconds each side should take turns in a pair of a test.

        ``longest``: whether to return as many as after a slow start.

        Starting a process and repeating replays together leave time for ten pairs of every test
        within the budget; repeating alone does so within the test's own budget.
        """
        if nodeid in self.without_repeats:
            return 0.0
        tests = len(self.workloads)
        starting = self.start_seconds * self.processes_per_round / tests
        spare = max(self.budget / tests / 20 - starting, 0.0)
        starting = math.inf if longest else starting
        wanted = wanted_seconds(turns, starting, spare, self.min_turn_seconds)
        return min(wanted, self.test_budgets.get(nodeid, math.inf) / 20)

    @property
    def processes(self) -> int:
        """Minimum number of fresh engine processes (with two sides, pairs) per workload."""
        return self.perf.processes

    @property
    def max_processes(self) -> int:
        """Maximum number of processes (pairs) of an undecided workload."""
        maximum = self.perf.max_pairs if self.paired else self.perf.max_processes
        return max(maximum, self.processes)

    @property
    def expected_seconds(self) -> float:
        """Expected wall seconds of the minimum number of processes, whatever the budget."""
        starting = self.start_seconds * self.processes_per_round
        alone = starting + sum(map(self._seconds_alone, self.recorded_seconds))
        if not self.paired:
            return self.processes * alone
        beside = starting + sum(map(self._seconds_beside, self.recorded_seconds))
        # The first pair runs one after the other.
        return 2 * (alone + (self.processes - 1) * beside)

    def _seconds_alone(self, nodeid: str) -> float:
        """Return for how many seconds a process that runs alone replays a test."""
        workload, seconds = self.workloads[nodeid], self.recorded_seconds[nodeid]
        if workload.load.is_load:
            request = seconds / len(workload.requests)
            return sum(
                load.expected_seconds(request) for load in (workload.load.warmup(), workload.load)
            )
        return seconds * (MIN_WARMUP + self.perf.iterations)

    def _seconds_beside(self, nodeid: str) -> float:
        """Return for how many seconds a process of a later pair replays a test."""
        once = self.recorded_seconds[nodeid]
        if self.turns is None or self.workloads[nodeid].load.is_load:
            return self._seconds_alone(nodeid)
        if self.turns == "iterations" or nodeid in self.whole_iterations_only:
            return once * (MIN_WARMUP + self.iterations_of(nodeid, "iterations", once))
        # Besides its turns, a process has one whole iteration of its own.
        wanted = self.wanted_turns(nodeid, self.turns)
        turns = turn_seconds(self.workloads[nodeid], once, self.perf.iterations, wanted)
        return once * (MIN_WARMUP + 1) + turns

    def describe(self) -> str:
        """Describe the plan and its expected duration in one line."""
        unit = f"pair of {plural(self.unit.name)}" if self.paired else self.unit.name
        line = (
            f"{count(len(self.workloads), 'test')}, at least {count(self.processes, unit)} each, "
            f"{format_duration(self.expected_seconds)}"
        )
        if self.expected_seconds <= self.budget:
            return f"{line} to {format_duration(self.budget)}"
        return (
            f"{line}; over the budget of {format_duration(self.budget)}: checks undecided by then "
            "are inconclusive (perf.budget)"
        )
