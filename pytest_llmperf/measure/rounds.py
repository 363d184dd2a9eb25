"""Replays workloads in rounds of fresh engine processes, and goes on with what is undecided."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineGoneError
from pytest_llmperf.measure.arms import Arm, turns
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replay import Place, Replayer, Watch
from pytest_llmperf.measure.replay import Step as Step
from pytest_llmperf.measure.samples import Measurement, ProcessSample, TestSamples

#: How many void rounds of a test are replaced, besides one for every two that counted.
SPARE_ROUNDS = 2

#: Given every test's samples so far, names those that more samples could still decide.
Undecided = Callable[[Mapping[str, TestSamples]], Collection[str]]


class Rounds:
    """One measure stage.

    In each round every waiting test is replayed, in random order, in a fresh engine
    process; with two arms a round is a pair: a process of either arm, in random turn,
    with the same order of tests in both.

    Args:
        plan: what to do.
        arms: the candidate, or the candidate and the base.
        watch: starts watching the machine.
        on_step: told of every replay before it starts.
        undecided: asked after each round whether to go on with the tests that have
            the plan's fewest samples; None goes on with none.
    """

    def __init__(
        self,
        plan: Plan,
        arms: Sequence[Arm],
        watch: Callable[[], Watch],
        on_step: Callable[[Step], None],
        undecided: Undecided | None = None,
    ) -> None:
        self._plan = plan
        self._arms = arms
        self._paired = len(arms) > 1
        self._replayer = Replayer(plan, watch, on_step)
        self._undecided = undecided
        self._tests = {nodeid: TestSamples() for nodeid in plan.workloads}
        self._began = time.monotonic()
        self._started = 0

    def run(self) -> Measurement:
        """Measure until every test is decided, or given up, or the budget ends."""
        for nodeid, workload in self._plan.workloads.items():
            self._tests[nodeid].error = workload.unmeasurable()
        order = random.Random(self._plan.seed)
        for number, arms in enumerate(turns(self._arms, order)):
            waiting = self._waiting()
            if not waiting:
                break
            order.shuffle(waiting)
            self._round(number, arms, waiting)
        return Measurement(
            tests=self._tests,
            seed=self._plan.seed,
            seconds=time.monotonic() - self._began,
            generating_seconds=self._replayer.generating_seconds,
            processes=self._started,
        )

    def _waiting(self) -> list[str]:
        """Return the tests that the next round is for."""
        waiting, asking = [], []
        for nodeid, samples in self._tests.items():
            if samples.error is not None or samples.budget_reached or samples.unfit:
                continue
            count = self._count(samples)
            if count < self._plan.processes:
                waiting.append(nodeid)
            elif count < self._plan.most:
                asking.append(nodeid)
        if asking and self._undecided is not None:
            named = self._undecided(self._tests)
            waiting.extend(nodeid for nodeid in asking if nodeid in named)
        return waiting

    def _count(self, samples: TestSamples) -> int:
        return samples.pairs if self._paired else len(samples.processes)

    def _round(self, number: int, arms: Sequence[Arm], waiting: list[str]) -> None:
        """Replay the tests in a fresh process of each arm; keep what all arms have measured."""
        found: dict[str, list[ProcessSample]] = {nodeid: [] for nodeid in waiting}
        for turn, arm in enumerate(arms):
            pair = number if self._paired else None
            place = Place(number * len(arms) + turn, arm.role, pair)
            for nodeid, sample in self._process(arm, place, waiting):
                found[nodeid].append(sample)
            # Nothing to compare with: the other half would only cost time.
            waiting = [n for n in waiting if len(found[n]) > turn and not found[n][-1].void]
        for nodeid, halves in found.items():
            void = any(sample.void for sample in halves)
            if void or len(halves) == len(arms):
                self._keep(self._tests[nodeid], halves)

    def _keep(self, samples: TestSamples, halves: list[ProcessSample]) -> None:
        for sample in halves:
            (samples.voided if sample.void else samples.processes).append(sample)
        void = samples.void_pairs if self._paired else len(samples.voided)
        samples.unfit = void > SPARE_ROUNDS + self._count(samples) // 2

    def _process(
        self, arm: Arm, place: Place, waiting: Sequence[str]
    ) -> list[tuple[str, ProcessSample]]:
        """Replay the tests in one fresh process; another follows where it dies."""
        found: list[tuple[str, ProcessSample]] = []
        client: EngineClient | None = None
        try:
            for nodeid in waiting:
                samples = self._tests[nodeid]
                if self._spent(nodeid):
                    continue
                try:
                    if client is not None and not client.alive:
                        client.close()
                        client = None
                    if client is None:
                        client = arm.start()
                        self._started += 1
                    found.append((nodeid, self._replay(client, place, nodeid)))
                except EngineGoneError as error:
                    samples.error = self._say(arm, error)
                    client = None
                except EngineError as error:
                    samples.error = self._say(arm, error)
            if client is not None:
                client.close()
        except BaseException:
            # Interrupted: there is no time to be polite to the engine.
            if client is not None:
                client.kill()
            raise
        return found

    def _spent(self, nodeid: str) -> bool:
        """Note whether the session's budget, or the test's own, is used up."""
        plan, samples = self._plan, self._tests[nodeid]
        samples.own_budget = samples.seconds > plan.test_budgets.get(nodeid, math.inf)
        spent = time.monotonic() - self._began > plan.budget
        samples.budget_reached = spent or samples.own_budget
        return samples.budget_reached

    def _replay(self, client: EngineClient, place: Place, nodeid: str) -> ProcessSample:
        began = time.monotonic()
        try:
            return self._replayer.replay(client, place, nodeid)
        finally:
            self._tests[nodeid].seconds += time.monotonic() - began

    def _say(self, arm: Arm, error: EngineError) -> str:
        return f"{arm.name}: {error}" if self._paired else str(error)
