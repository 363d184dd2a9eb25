"""Rounds of fresh engine processes, repeated until every test is decided."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineGoneError
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.server.about import UNKNOWN_BUILD
from pytest_llmperf.measure.cache_use import void_if_cache_use_differs
from pytest_llmperf.measure.clocks import void_if_clocks_differ
from pytest_llmperf.measure.order import shuffled
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replay import Replayer
from pytest_llmperf.measure.replay_process import ReplayError, ReplayProcess, ReplaySlot
from pytest_llmperf.measure.replay_process import Step as Step
from pytest_llmperf.measure.round_processes import RoundProcesses
from pytest_llmperf.measure.samples import Measurement, ProcessSample, TestSamples
from pytest_llmperf.measure.side_by_side import choose_tests, fewer_layers, short_of_memory
from pytest_llmperf.measure.sides import Side, rounds_of
from pytest_llmperf.measure.turns import Turns, common_turns
from pytest_llmperf.measure.watch import Watch

#: Void rounds of a test that may be replaced, plus one more for every two valid rounds.
SPARE_ROUNDS = 2


@dataclass(frozen=True)
class OpenTest:
    """What more samples of a test could still decide.

    Attributes:
        metrics: the undecided metrics; empty means all.
        without_turns: whether a pair whose processes run one after the other is needed, because
            such pairs contradict those that took turns.
        texts: state of each undecided metric, for the progress display.
        seconds: expected time to decide them; None if unknown.
        pairs: expected number of further pairs; 0 if unknown, infinite if no number is enough.
    """

    metrics: Collection[str] = ()
    without_turns: bool = False
    texts: tuple[str, ...] = ()
    seconds: float | None = None
    pairs: float = 0.0


#: A test expected to need more further pairs than this takes turns for longer in each pair from
#: then on, so that the fixed cost of a pair, such as starting two processes, is better used.
MANY_PAIRS = 8

#: Takes the samples of every test so far; returns the tests that more samples could still decide.
Undecided = Callable[[Mapping[str, TestSamples]], Mapping[str, OpenTest]]

#: Called for every complete pair, or single process, as soon as it counts: node id, samples.
Keep = Callable[[str, Sequence[ProcessSample]], None]


class Rounds:
    """A measure stage: rounds of processes until every test is decided.

    In each round every waiting test is replayed, in random order, in a fresh engine
    process. With two sides a round is a pair: one process per side, in random order, both
    with the same order of tests. Tests with the same engine settings stay together: a test
    that needs another context follows in the same process, a test that needs another load
    in a new one. A test that only one side has is replayed in that side's processes. If two
    processes fit side by side, they run together and take turns; otherwise one follows the
    other, as in the first round.

    Args:
        plan: the measure stage's plan.
        sides: the candidate, or the candidate and the base.
        watch: starts watching the machine for the engine of a client.
        on_step: called before every replay.
        undecided: called after each round; returns which tests that already have the planned
            minimum of samples should continue. None: none of them.
        earlier: pairs from earlier sessions of the same comparison, by node id; they count
            like this session's.
        keep: called for every valid pair as soon as it is complete.
        before: called right before each engine process starts, with the kind of turns it will
            take; returns the seconds it waited, which do not count towards the budget.
        possible_turns: called with the client of each side's first process, at its end; returns the
            kind of turns it could take beside another process, or None if it must run alone.
        known_turns: the kind of turns of both sides, if known before the first round.
    """

    def __init__(
        self,
        plan: Plan,
        sides: Sequence[Side],
        watch: Callable[[EngineClient], Watch],
        on_step: Callable[[Step], None],
        undecided: Undecided | None = None,
        earlier: Mapping[str, Sequence[ProcessSample]] | None = None,
        keep: Keep | None = None,
        before: Callable[[Turns | None], float] = lambda _: 0.0,
        possible_turns: Callable[[EngineClient], Turns | None] = lambda _: None,
        known_turns: Turns | None = None,
    ) -> None:
        self._plan = plan
        self._sides = sides
        self._paired = len(sides) > 1
        self._specs = sides[0].specs
        self._on_step = on_step
        self._replayer = Replayer(plan, watch, self._step)
        self._undecided = undecided
        self._keep_pair = keep
        self._before = before
        self._turns_of = possible_turns
        #: Kind of turns each side can take, by side; if either can't, they run one by one.
        self._turns: dict[str, Turns | None] = {}
        if known_turns is not None:
            self._turns = dict.fromkeys((side.role for side in sides), known_turns)
        #: Tests that were expected to need many more pairs.
        self._long: set[str] = set()
        #: Tests with a void pair that had to run alone: the machine does not allow it now.
        self._void_alone: set[str] = set()
        #: What is undecided about each test; empty until the first answer.
        self._open: Mapping[str, OpenTest] = {}
        self._asked = 0.0
        self._apart = ""
        self._waited = 0.0
        self._tests = {nodeid: TestSamples() for nodeid in plan.workloads}
        for nodeid, samples in (earlier or {}).items():
            self._tests[nodeid].processes.extend(samples)
            self._tests[nodeid].earlier = self._tests[nodeid].pairs
        #: Numbering of pairs continues after the earlier ones.
        self._first = max((samples.earlier for samples in self._tests.values()), default=0)
        self._began = time.monotonic()
        self._started = 0

    def run(self) -> Measurement:
        """Measure until every test is decided or given up, or the budget runs out."""
        for nodeid, workload in self._plan.workloads.items():
            own_workloads = [side.workload(nodeid, workload) for side in self._sides]
            reasons = [own.unmeasurable() for own in own_workloads if own is not None]
            self._tests[nodeid].error = next(filter(None, reasons), None)
        order = random.Random(self._plan.seed)
        for number, sides in enumerate(rounds_of(self._sides, order), start=self._first):
            waiting = self._waiting()
            if not waiting:
                break
            waiting, turns = self._next_round(waiting)
            self._round(number, sides, shuffled(waiting, self._specs, order), turns)
        return self.measured()

    def measured(self) -> Measurement:
        """Return what was measured so far."""
        return Measurement(
            tests=self._tests,
            seed=self._plan.seed,
            seconds=time.monotonic() - self._began,
            generating_seconds=self._replayer.generating_seconds,
            processes=self._started,
            waited=self._waited,
            why_not_side_by_side=self._apart,
        )

    def _next_round(self, waiting: list[str]) -> tuple[list[str], Turns | None]:
        """Return the waiting tests that come next, and the kind of turns of their processes."""
        alone = [nodeid for nodeid in waiting if self._needs_alone(nodeid)]
        turns = None if alone else self._common_turns()
        if turns is None:
            return alone or waiting, None
        return choose_tests(waiting, self._plan.run_alone, self._count, turns)

    def _waiting(self) -> list[str]:
        """Return the tests of the next round."""
        waiting, asking = [], []
        for nodeid, samples in self._tests.items():
            if samples.error is not None or samples.budget_reached or samples.given_up:
                continue
            count = self._count(nodeid)
            if count < self._plan.processes:
                waiting.append(nodeid)
            # Where other pairs took turns, the pairs that ran alone decide nothing.
            elif count - samples.earlier - samples.pairs_without_turns < self._plan.max_processes:
                asking.append(nodeid)
        if asking and self._undecided is not None:
            self._open, self._asked = self._undecided(self._tests), time.monotonic()
            waiting.extend(nodeid for nodeid in asking if self._is_open(nodeid))
        return waiting

    def _is_open(self, nodeid: str) -> bool:
        known = self._open.get(nodeid)
        return known is not None and not (known.without_turns and nodeid in self._void_alone)

    def _step(self, step: Step) -> None:
        """Report a step, with the undecided metrics of its test and the seconds left."""
        texts = self._open.get(step.nodeid, OpenTest()).texts
        self._on_step(replace(step, open=texts, left=self._left()))

    def _left(self) -> float | None:
        """Return the seconds that the open tests still need, at most the rest of the budget."""
        seconds = [test.seconds for test in self._open.values() if test.seconds is not None]
        needed = sum(seconds) - (time.monotonic() - self._asked)
        left = max(min(needed, self._plan.budget - self._spent_seconds()), 0.0)
        return left if seconds else None

    def _spent_seconds(self) -> float:
        return time.monotonic() - self._began - self._waited

    def _needs_alone(self, nodeid: str) -> bool:
        known = self._open.get(nodeid)
        return known is not None and known.without_turns

    def _count(self, nodeid: str) -> int:
        samples = self._tests[nodeid]
        return samples.pairs if self._is_paired(nodeid) else len(samples.processes)

    def _is_paired(self, nodeid: str) -> bool:
        """Whether every side of a comparison has the test."""
        return len(self._sides) > 1 and all(self._has(side, nodeid) for side in self._sides)

    def _has(self, side: Side, nodeid: str) -> bool:
        return side.workload(nodeid, self._plan.workloads[nodeid]) is not None

    def _round(
        self, number: int, sides: Sequence[Side], waiting: list[str], turns: Turns | None
    ) -> None:
        """Replay the tests in a fresh process of each side; keep the complete results.

        ``turns``: kind of turns taken side by side; None: one process follows the other.
        """
        samples_of: dict[str, list[ProcessSample]] = {nodeid: [] for nodeid in waiting}
        pair = number if self._paired else None
        slots = [
            (side, ReplaySlot(number * len(sides) + turn, side.role, pair))
            for turn, side in enumerate(sides)
        ]
        for together in [slots] if turns else [[slot] for slot in slots]:
            nodeids = [
                nodeid for nodeid in waiting if any(self._has(side, nodeid) for side, _ in together)
            ]
            got = dict(self._processes(together, nodeids, turns))
            if turns and (short := short_of_memory(got.values())):
                self._keep_apart(short)
            for nodeid, samples in got.items():
                samples_of[nodeid] += samples
            # Without this half of the pair, measuring the other half would waste time.
            lost = {n for n in nodeids if n not in got or any(sample.void for sample in got[n])}
            waiting = [nodeid for nodeid in waiting if nodeid not in lost]
        for nodeid, halves in samples_of.items():
            void = any(sample.void for sample in halves)
            if void or len(halves) == sum(self._has(side, nodeid) for side in sides):
                self._keep(nodeid, halves)

    def _keep_apart(self, why: str) -> None:
        """Run the processes of a pair one after the other from now on."""
        self._turns = dict.fromkeys(side.role for side in self._sides)
        self._apart = why

    def _keep(self, nodeid: str, halves: list[ProcessSample]) -> None:
        samples = self._tests[nodeid]
        if all(sample.overloaded for sample in halves):
            halves = [replace(half, void=half.void or half.overloaded) for half in halves]
        halves = void_if_cache_use_differs(halves, self._plan.perf.fitness)
        halves = void_if_clocks_differ(halves, samples.loaded, self._plan.perf.fitness)
        for sample in halves:
            (samples.voided if sample.void else samples.processes).append(sample)
        paired = self._is_paired(nodeid)
        if self._needs_alone(nodeid) and any(sample.void for sample in halves):
            self._void_alone.add(nodeid)
            return
        void = samples.void_pairs if paired else len(samples.voided)
        samples.given_up = void > SPARE_ROUNDS + (self._count(nodeid) - samples.earlier) // 2
        if self._keep_pair is not None and not any(sample.void for sample in halves):
            self._keep_pair(nodeid, halves)

    def _processes(
        self,
        together: Sequence[tuple[Side, ReplaySlot]],
        waiting: Sequence[str],
        turns: Turns | None,
    ) -> list[tuple[str, list[ProcessSample]]]:
        """Replay the tests in one fresh process per side, side by side.

        A process that dies is replaced.
        """
        results: list[tuple[str, list[ProcessSample]]] = []
        is_known = not self._paired or all(side.role in self._turns for side, _ in together)
        processes = RoundProcesses(
            partial(self._wait_before, turns), None if is_known else self._turns_of
        )
        sides = [side for side, _ in together]
        try:
            for nodeid in waiting:
                if self._spent(nodeid):
                    continue
                try:
                    processes.make_room(sides, nodeid)
                    results.append((nodeid, self._replay(together, processes, nodeid, turns)))
                except ReplayError as failure:
                    if isinstance(failure.error, EngineGoneError):
                        processes.lose(failure.side)
                    side = next(side for side in sides if side.role == failure.side)
                    if len(together) > 1:
                        # They may disturb each other; running alone will tell.
                        self._keep_apart(self._message(side, failure.error))
                        break
                    self._tests[nodeid].error = self._message(side, failure.error)
            processes.close()
        except BaseException:
            # Interrupted: kill the engines instead of closing them.
            processes.kill()
            raise
        finally:
            self._started += processes.started
        self._turns = {**processes.turns, **self._turns}
        return results

    def _wait_before(self, turns: Turns | None) -> None:
        time.sleep(self._plan.unit.pause_seconds)
        self._waited += self._before(turns)

    def _spent(self, nodeid: str) -> bool:
        """Return (and note) whether the session's or the test's own budget is used up."""
        plan, samples = self._plan, self._tests[nodeid]
        samples.own_budget = samples.seconds > plan.test_budgets.get(nodeid, math.inf)
        samples.budget_reached = self._spent_seconds() > plan.budget or samples.own_budget
        return samples.budget_reached

    def _replay(
        self,
        together: Sequence[tuple[Side, ReplaySlot]],
        engines: RoundProcesses,
        nodeid: str,
        turns: Turns | None,
    ) -> list[ProcessSample]:
        paired, processes = self._is_paired(nodeid), list[ReplayProcess]()
        for side, side_slot in together:
            workload = side.workload(nodeid, self._plan.workloads[nodeid])
            if workload is not None:
                slot = side_slot if paired else replace(side_slot, pair=None)
                client, loaded = engines.ready(side, nodeid), self._tests[nodeid].loaded
                if turns and (fewer := fewer_layers(loaded.get(side.role), client.info)):
                    raise ReplayError(side.role, EngineError(fewer))
                if other := _other_server(loaded.get(side.role), client):
                    raise ReplayError(side.role, EngineError(other))
                loaded[side.role] = client.info
                processes.append(ReplayProcess(client, slot, workload))
        began = time.monotonic()
        try:
            if paired and len(processes) > 1:
                if turns == "tokens" and nodeid in self._plan.whole_iterations_only:
                    turns = "iterations"
                undecided = self._open.get(nodeid)
                open_metrics = (undecided.metrics or None) if undecided else None
                if undecided is not None and undecided.pairs > MANY_PAIRS:
                    self._long.add(nodeid)
                return self._replayer.replay(
                    nodeid, processes, turns, open_metrics, longest=nodeid in self._long
                )
            # If only one side has the test, there are no turns to take.
            return [sample for p in processes for sample in self._replayer.replay(nodeid, [p])]
        finally:
            self._tests[nodeid].seconds += time.monotonic() - began

    def _common_turns(self) -> Turns | None:
        """Return the kind of turns both sides can take; None if one follows the other."""
        if not self._paired:
            return None
        return common_turns([self._turns.get(side.role) for side in self._sides])

    def _message(self, side: Side, error: EngineError) -> str:
        return f"{side.name}: {error}" if self._paired else str(error)


def _other_server(known: EngineInfo | None, client: EngineClient) -> str:
    """Explain how an already running server has changed; empty if it hasn't."""
    now = client.info
    if known is None or client.kind.restarts:
        return ""
    versions = (known.engine_version, now.engine_version)
    changed = (
        known.model_title != now.model_title,
        UNKNOWN_BUILD not in versions and versions[0] != versions[1],
        known.model_bytes and now.model_bytes and known.model_bytes != now.model_bytes,
    )
    if not any(changed):
        return ""
    return (
        f"the server changed during the session: {known.model_name} on {known.engine_version} "
        f"before, {now.model_name} on {now.engine_version} now; let it run, and repeat the "
        "measurement"
    )
