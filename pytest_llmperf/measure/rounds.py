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
from pytest_llmperf.measure.beside import choose_tests, fewer_layers, short_of_memory
from pytest_llmperf.measure.cache_use import with_equal_use
from pytest_llmperf.measure.clocks import with_equal_clocks
from pytest_llmperf.measure.order import shuffled
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replay import Replayer
from pytest_llmperf.measure.replay_process import ReplayError, ReplayProcess, ReplaySlot
from pytest_llmperf.measure.replay_process import Step as Step
from pytest_llmperf.measure.round_processes import RoundProcesses
from pytest_llmperf.measure.samples import Measurement, ProcessSample, TestSamples
from pytest_llmperf.measure.sides import Side, rounds_of
from pytest_llmperf.measure.turns import Turns, common_turns
from pytest_llmperf.measure.watch import Watch

#: Number of void rounds of a test that are replaced, besides one for every two that counted.
SPARE_ROUNDS = 2


@dataclass(frozen=True)
class Open:
    """What more samples of a test could still decide.

    Attributes:
        metrics: the undecided ones; none: all.
        alone: a pair whose processes run one after the other is needed, because such pairs
            contradict those that took turns.
        texts: what is known of each undecided metric, for the progress display.
        seconds: that deciding them is expected to take; None where unknown.
        pairs: that this is expected to take; 0 where unknown, infinite where none would do.
    """

    metrics: Collection[str] = ()
    alone: bool = False
    texts: tuple[str, ...] = ()
    seconds: float | None = None
    pairs: float = 0.0


#: A test that is expected to take more further pairs takes turns for longer in each from then on:
#: what a pair costs besides its turns, such as starting two processes, is then better used.
MANY_PAIRS = 8

#: Given every test's samples so far, returns the tests that more samples could still decide.
Undecided = Callable[[Mapping[str, TestSamples]], Mapping[str, Open]]

#: Called for every complete pair, or single process, as soon as it counts: node id, samples.
Keep = Callable[[str, Sequence[ProcessSample]], None]


class Rounds:
    """A measure stage: rounds of processes until every test is decided.

    In each round every waiting test is replayed, in random order, in a fresh engine
    process; with two sides a round is a pair: a process of either side, in random turn,
    with the same order of tests in both. Tests of the same engine settings stay together:
    those of another context follow in the same process, those that take another load in
    the next one. A test that only one side has is replayed in that side's processes. If two
    processes fit side by side they run together, and take turns iteration by iteration;
    else one follows the other, as in the first round.

    Args:
        plan: the measure stage's plan.
        sides: the candidate, or the candidate and the base.
        watch: starts a watch over the machine for the engine of this client.
        on_step: called before every replay.
        undecided: asked after each round which of the tests with the planned minimum of
            samples to continue; None continues none.
        earlier: pairs of earlier sessions of the same comparison, by node id; they count
            like this session's.
        keep: called for every pair that counts, as soon as it is complete.
        before: called right before each engine process starts, with what it will take turns by;
            returns the seconds it spent waiting, which do not count for the budget.
        turns: asked of either side's first process, at its end, what it could take turns by
            with another one beside it; None: they must follow one another.
        known_turns: the answer for both sides, where it is known before the first round.
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
        turns: Callable[[EngineClient], Turns | None] = lambda _: None,
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
        self._turns_of = turns
        #: By side; only if both can, processes run side by side.
        self._turns: dict[str, Turns | None] = {}
        if known_turns is not None:
            self._turns = dict.fromkeys((side.role for side in sides), known_turns)
        #: Tests that were expected to need many more pairs.
        self._long: set[str] = set()
        #: Tests of which a pair that had to run alone was void: the machine does not allow it now.
        self._void_alone: set[str] = set()
        #: What is undecided of each test, once there is a first answer.
        self._open: Mapping[str, Open] = {}
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
        """Measure until every test is decided, or given up, or the budget ends."""
        for nodeid, workload in self._plan.workloads.items():
            own = [side.workload(nodeid, workload) for side in self._sides]
            found = [one.unmeasurable() for one in own if one is not None]
            self._tests[nodeid].error = next(filter(None, found), None)
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
            apart=self._apart,
        )

    def _next_round(self, waiting: list[str]) -> tuple[list[str], Turns | None]:
        """Return which of the waiting tests come next, and what their processes take turns by."""
        alone = [nodeid for nodeid in waiting if self._needs_alone(nodeid)]
        turns = None if alone else self._common_turns()
        if turns is None:
            return alone or waiting, None
        return choose_tests(waiting, self._plan.alone, self._count, turns)

    def _waiting(self) -> list[str]:
        """Return the tests of the next round."""
        waiting, asking = [], []
        for nodeid, samples in self._tests.items():
            if samples.error is not None or samples.budget_reached or samples.unfit:
                continue
            count = self._count(nodeid)
            if count < self._plan.processes:
                waiting.append(nodeid)
            # Those that ran alone beside pairs in turns decide nothing.
            elif count - samples.earlier - samples.alone_pairs < self._plan.max_processes:
                asking.append(nodeid)
        if asking and self._undecided is not None:
            self._open, self._asked = self._undecided(self._tests), time.monotonic()
            waiting.extend(nodeid for nodeid in asking if self._is_open(nodeid))
        return waiting

    def _is_open(self, nodeid: str) -> bool:
        known = self._open.get(nodeid)
        return known is not None and not (known.alone and nodeid in self._void_alone)

    def _step(self, step: Step) -> None:
        """Report a step with what is open of its test, and the seconds left."""
        texts = self._open.get(step.nodeid, Open()).texts
        self._on_step(replace(step, open=texts, left=self._left()))

    def _left(self) -> float | None:
        """Return the seconds that all open tests still need, within what is left of the budget."""
        seconds = [one.seconds for one in self._open.values() if one.seconds is not None]
        needed = sum(seconds) - (time.monotonic() - self._asked)
        left = max(min(needed, self._plan.budget - self._spent_seconds()), 0.0)
        return left if seconds else None

    def _spent_seconds(self) -> float:
        return time.monotonic() - self._began - self._waited

    def _needs_alone(self, nodeid: str) -> bool:
        known = self._open.get(nodeid)
        return known is not None and known.alone

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
        """Replay the tests in a fresh process of each side; keep what all sides have measured.

        ``turns``: what the processes take turns by, side by side; None: one follows the other.
        """
        found: dict[str, list[ProcessSample]] = {nodeid: [] for nodeid in waiting}
        pair = number if self._paired else None
        slots = [
            (side, ReplaySlot(number * len(sides) + turn, side.role, pair))
            for turn, side in enumerate(sides)
        ]
        for together in [slots] if turns else [[one] for one in slots]:
            nodeids = [
                nodeid for nodeid in waiting if any(self._has(side, nodeid) for side, _ in together)
            ]
            got = dict(self._processes(together, nodeids, turns))
            if turns and (short := short_of_memory(got.values())):
                self._keep_apart(short)
            for nodeid, samples in got.items():
                found[nodeid] += samples
            # Without this half the other one would only cost time.
            lost = {n for n in nodeids if n not in got or any(one.void for one in got[n])}
            waiting = [nodeid for nodeid in waiting if nodeid not in lost]
        for nodeid, halves in found.items():
            void = any(sample.void for sample in halves)
            if void or len(halves) == sum(self._has(side, nodeid) for side in sides):
                self._keep(nodeid, halves)

    def _keep_apart(self, why: str) -> None:
        """Have processes follow one another from now on."""
        self._turns = dict.fromkeys(side.role for side in self._sides)
        self._apart = why

    def _keep(self, nodeid: str, halves: list[ProcessSample]) -> None:
        samples = self._tests[nodeid]
        if all(sample.overloaded for sample in halves):
            halves = [replace(one, void=one.void or one.overloaded) for one in halves]
        halves = with_equal_use(halves, self._plan.perf.fitness)
        halves = with_equal_clocks(halves, samples.loaded, self._plan.perf.fitness)
        for sample in halves:
            (samples.voided if sample.void else samples.processes).append(sample)
        paired = self._is_paired(nodeid)
        if self._needs_alone(nodeid) and any(sample.void for sample in halves):
            self._void_alone.add(nodeid)
            return
        void = samples.void_pairs if paired else len(samples.voided)
        samples.unfit = void > SPARE_ROUNDS + (self._count(nodeid) - samples.earlier) // 2
        if self._keep_pair is not None and not any(sample.void for sample in halves):
            self._keep_pair(nodeid, halves)

    def _processes(
        self,
        together: Sequence[tuple[Side, ReplaySlot]],
        waiting: Sequence[str],
        turns: Turns | None,
    ) -> list[tuple[str, list[ProcessSample]]]:
        """Replay the tests in one fresh process of each of these sides, side by side.

        A process that dies is replaced.
        """
        found: list[tuple[str, list[ProcessSample]]] = []
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
                    found.append((nodeid, self._replay(together, processes, nodeid, turns)))
                except ReplayError as failure:
                    if isinstance(failure.error, EngineGoneError):
                        processes.lose(failure.side)
                    side = next(side for side in sides if side.role == failure.side)
                    if len(together) > 1:
                        # They may disturb each other; running alone will show.
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
        return found

    def _wait_before(self, turns: Turns | None) -> None:
        time.sleep(self._plan.unit.pause_seconds)
        self._waited += self._before(turns)

    def _spent(self, nodeid: str) -> bool:
        """Check and note whether the session's budget, or the test's own, is used up."""
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
        for side, place in together:
            workload = side.workload(nodeid, self._plan.workloads[nodeid])
            if workload is not None:
                own = place if paired else replace(place, pair=None)
                client, loaded = engines.ready(side, nodeid), self._tests[nodeid].loaded
                if turns and (fewer := fewer_layers(loaded.get(side.role), client.info)):
                    raise ReplayError(side.role, EngineError(fewer))
                if other := _other_server(loaded.get(side.role), client):
                    raise ReplayError(side.role, EngineError(other))
                loaded[side.role] = client.info
                processes.append(ReplayProcess(client, own, workload))
        began = time.monotonic()
        try:
            if paired and len(processes) > 1:
                if turns == "tokens" and nodeid in self._plan.uncut:
                    turns = "iterations"
                named = self._open.get(nodeid)
                open_metrics = (named.metrics or None) if named else None
                if named is not None and named.pairs > MANY_PAIRS:
                    self._long.add(nodeid)
                return self._replayer.replay(
                    nodeid, processes, turns, open_metrics, longest=nodeid in self._long
                )
            # Where only one side has the test there are no turns to take.
            return [one for each in processes for one in self._replayer.replay(nodeid, [each])]
        finally:
            self._tests[nodeid].seconds += time.monotonic() - began

    def _common_turns(self) -> Turns | None:
        """Return what both sides can take turns by; None if they follow one another."""
        if not self._paired:
            return None
        return common_turns([self._turns.get(side.role) for side in self._sides])

    def _message(self, side: Side, error: EngineError) -> str:
        return f"{side.name}: {error}" if self._paired else str(error)


def _other_server(known: EngineInfo | None, client: EngineClient) -> str:
    """Return how a server that runs already differs from the one before; empty if it doesn't."""
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
