"""Replays workloads in rounds of fresh engine processes, and goes on with what is undecided."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineGoneError
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.measure.arms import Arm, turns
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replay import Place, Replayer, Watch
from pytest_llmperf.measure.replay import Step as Step
from pytest_llmperf.measure.samples import Measurement, ProcessSample, TestSamples

#: How many void rounds of a test are replaced, besides one for every two that counted.
SPARE_ROUNDS = 2

#: Given every test's samples so far, names those that more samples could still decide.
Undecided = Callable[[Mapping[str, TestSamples]], Collection[str]]

#: Told of every complete pair, or lone process, as soon as it counts: node id and samples.
Keep = Callable[[str, Sequence[ProcessSample]], None]


class Rounds:
    """One measure stage.

    In each round every waiting test is replayed, in random order, in a fresh engine
    process; with two arms a round is a pair: a process of either arm, in random turn,
    with the same order of tests in both. A test that only one arm has is replayed in
    that arm's processes.

    Args:
        plan: what to do.
        arms: the candidate, or the candidate and the base.
        watch: starts watching the machine, beside the engine of this client.
        on_step: told of every replay before it starts.
        undecided: asked after each round whether to go on with the tests that have
            the plan's fewest samples; None goes on with none.
        earlier: pairs of an earlier session that measured the very same, by node id; they
            count as if they were of this one.
        keep: told of every pair that counts, as soon as it is complete.
        before: called right before each engine process starts; returns the seconds it spent
            waiting, which are no part of the budget.
    """

    def __init__(
        self,
        plan: Plan,
        arms: Sequence[Arm],
        watch: Callable[[EngineClient], Watch],
        on_step: Callable[[Step], None],
        undecided: Undecided | None = None,
        earlier: Mapping[str, Sequence[ProcessSample]] | None = None,
        keep: Keep | None = None,
        before: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._plan = plan
        self._arms = arms
        self._paired = len(arms) > 1
        self._replayer = Replayer(plan, watch, on_step)
        self._undecided = undecided
        self._keep_pair = keep
        self._before = before
        self._waited = 0.0
        self._loaded: dict[str, EngineInfo] = {}
        self._tests = {nodeid: TestSamples() for nodeid in plan.workloads}
        for nodeid, samples in (earlier or {}).items():
            self._tests[nodeid].processes.extend(samples)
            self._tests[nodeid].earlier = self._tests[nodeid].pairs
        #: Pairs are numbered on from the earlier ones.
        self._first = max((samples.earlier for samples in self._tests.values()), default=0)
        self._began = time.monotonic()
        self._started = 0

    def run(self) -> Measurement:
        """Measure until every test is decided, or given up, or the budget ends."""
        for nodeid, workload in self._plan.workloads.items():
            own = [arm.workload(nodeid, workload) for arm in self._arms]
            found = [one.unmeasurable() for one in own if one is not None]
            self._tests[nodeid].error = next(filter(None, found), None)
        order = random.Random(self._plan.seed)
        for number, arms in enumerate(turns(self._arms, order), start=self._first):
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
            waited=self._waited,
            loaded=self._loaded,
        )

    def _waiting(self) -> list[str]:
        """Return the tests that the next round is for."""
        waiting, asking = [], []
        for nodeid, samples in self._tests.items():
            if samples.error is not None or samples.budget_reached or samples.unfit:
                continue
            count = self._count(nodeid)
            if count < self._plan.processes:
                waiting.append(nodeid)
            elif count - samples.earlier < self._plan.most:
                asking.append(nodeid)
        if asking and self._undecided is not None:
            named = self._undecided(self._tests)
            waiting.extend(nodeid for nodeid in asking if nodeid in named)
        return waiting

    def _count(self, nodeid: str) -> int:
        samples = self._tests[nodeid]
        return samples.pairs if self._is_paired(nodeid) else len(samples.processes)

    def _is_paired(self, nodeid: str) -> bool:
        """Whether every arm of a comparison has the test."""
        return len(self._arms) > 1 and all(self._has(arm, nodeid) for arm in self._arms)

    def _has(self, arm: Arm, nodeid: str) -> bool:
        return arm.workload(nodeid, self._plan.workloads[nodeid]) is not None

    def _round(self, number: int, arms: Sequence[Arm], waiting: list[str]) -> None:
        """Replay the tests in a fresh process of each arm; keep what all arms have measured."""
        found: dict[str, list[ProcessSample]] = {nodeid: [] for nodeid in waiting}
        for turn, arm in enumerate(arms):
            place = Place(number * len(arms) + turn, arm.role, number if self._paired else None)
            here = [nodeid for nodeid in waiting if self._has(arm, nodeid)]
            got = dict(self._process(arm, place, here))
            for nodeid, sample in got.items():
                found[nodeid].append(sample)
            # Nothing to compare with: the other half would only cost time.
            lost = {nodeid for nodeid in here if nodeid not in got or got[nodeid].void}
            waiting = [nodeid for nodeid in waiting if nodeid not in lost]
        for nodeid, halves in found.items():
            void = any(sample.void for sample in halves)
            if void or len(halves) == sum(self._has(arm, nodeid) for arm in arms):
                self._keep(nodeid, halves)

    def _keep(self, nodeid: str, halves: list[ProcessSample]) -> None:
        samples = self._tests[nodeid]
        for sample in halves:
            (samples.voided if sample.void else samples.processes).append(sample)
        paired = self._is_paired(nodeid)
        void = samples.void_pairs if paired else len(samples.voided)
        samples.unfit = void > SPARE_ROUNDS + (self._count(nodeid) - samples.earlier) // 2
        if self._keep_pair is not None and not any(sample.void for sample in halves):
            self._keep_pair(nodeid, halves)

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
                        self._waited += self._before()
                        client = arm.start()
                        self._started += 1
                        self._loaded[arm.role] = client.info
                    found.append((nodeid, self._replay(client, arm, place, nodeid)))
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
        spent = time.monotonic() - self._began - self._waited > plan.budget
        samples.budget_reached = spent or samples.own_budget
        return samples.budget_reached

    def _replay(self, client: EngineClient, arm: Arm, place: Place, nodeid: str) -> ProcessSample:
        workload = arm.workload(nodeid, self._plan.workloads[nodeid])
        assert workload is not None
        if not self._is_paired(nodeid):
            place = replace(place, pair=None)
        began = time.monotonic()
        try:
            return self._replayer.replay(client, place, nodeid, workload)
        finally:
            self._tests[nodeid].seconds += time.monotonic() - began

    def _say(self, arm: Arm, error: EngineError) -> str:
        return f"{arm.name}: {error}" if self._paired else str(error)
