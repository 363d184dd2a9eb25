"""Replay of a test's workload in one engine process, or in two that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.process_run import ProcessRun
from pytest_llmperf.measure.replay_process import ReplayProcess, Step
from pytest_llmperf.measure.samples import ProcessSample
from pytest_llmperf.measure.turns import (
    SPIN_SECONDS,
    Turns,
    needs_decode_alone,
    planned_replays,
    turn_tokens,
)
from pytest_llmperf.measure.watch import Watch


class Replayer:
    """Replays the workloads of a plan.

    Args:
        plan: the measure stage's plan.
        watch: starts watching the machine for the engine of a client.
        on_step: called before every replay.
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
        #: Output tokens that already running servers had counted after their last load, by address.
        self._generated: dict[str, float] = {}

    def replay(
        self,
        nodeid: str,
        processes: Sequence[ReplayProcess],
        turns: Turns | None = None,
        open_metrics: Collection[str] | None = None,
        *,
        longest: bool = False,
    ) -> list[ProcessSample]:
        """Replay one test until every process is warm and has its iterations, or one is void.

        Two processes take turns: disturbances longer than a turn affect both.
        If one is void, the other is returned only if it has all its iterations.

        Args:
            nodeid: node id of the test.
            processes: one process, or two that run side by side.
            turns: kind of turns that two processes take.
            open_metrics: undecided metrics; turns of tokens replay only what these need. None: all.
            longest: whether to take turns for as long as allowed.

        Raises:
            ReplayError: an engine refused or failed a request, or the base did other
                work than was recorded.
        """
        runs: list[ProcessRun] = []
        try:
            for process in processes:
                watch = self._watch(process.client)
                runs.append(ProcessRun(self._plan, nodeid, process, watch, turns, self._generated))
            self._warm_up(runs)
            whole = self._iterate(nodeid, runs, turns, longest=longest)
            if turns == "tokens":
                wanted = self._plan.wanted_turns(nodeid, turns, longest=longest)
                self._take_turns(runs, open_metrics, wanted)
            samples = [run.end() for run in runs]
        except BaseException:
            # A watch must not outlive its engine.
            for run in runs:
                run.watch.stop()
            raise
        finally:
            self.generating_seconds += sum(run.generating_seconds for run in runs)
        return [s for s in samples if s.void or len(s.iterations) == whole]

    def _warm_up(self, runs: Sequence[ProcessRun]) -> None:
        for run in runs:
            while not any(r.void for r in runs) and not run.is_warm:
                self._on_step(run.step(None))
                run.warm_up()

    def _iterate(
        self, nodeid: str, runs: Sequence[ProcessRun], turns: Turns | None, *, longest: bool
    ) -> int:
        """Replay whole iterations, two processes in turns; return the number required of each."""
        order = list(runs)
        done = 0
        planned = whole = self._plan.iterations_of(nodeid, turns)
        while done < whole:
            for run in order:
                if any(r.void for r in runs):
                    return whole
                self._on_step(run.step(done + 1, whole))
                with _others_wait(run, runs):
                    run.count()
            order.reverse()
            done += 1
            if done == planned:
                # Only now is it known how long a replay takes.
                seconds = max(run.smallest("end_to_end") for run in runs)
                whole = self._plan.iterations_of(nodeid, turns, seconds, longest=longest)
        return whole

    def _take_turns(
        self, runs: Sequence[ProcessRun], open_metrics: Collection[str] | None, wanted: float
    ) -> None:
        """Replay in turns within the generations, so that even short disturbances hit both.

        Every turn follows a turn of the other side, since right after its own a side is faster.
        The side that begins alternates by replay.
        """
        iterations, workload = self._plan.perf.iterations, runs[0].workload
        step, whole = (
            max(run.smallest(metric) for run in runs)
            for metric in ("time_per_output_token", "end_to_end")
        )
        tokens = turn_tokens(workload, step)
        restores = needs_decode_alone(workload, open_metrics) and _restore_prompt(runs)
        replays = planned_replays(
            workload,
            step,
            whole,
            iterations,
            open_metrics,
            min_seconds=wanted,
            restores_prompt=restores,
        )
        for number, part in enumerate(replays, 1):
            if any(run.void for run in runs):
                return
            order = list(runs if number % 2 else reversed(runs))
            self._on_step(order[0].step(number, len(replays)))
            going = {run: run.in_turns(tokens, part) for run in order}
            reached = dict.fromkeys(going, 0)
            while going:
                # The side that is behind continues, so that prompts of several batches stay level.
                behind = min(reached[run] for run in going)
                for run in [r for r in order if r in going and reached[r] == behind]:
                    # Wait until the other's threads stop spinning: how long they still would
                    # depends on how its turn ended, and it would slow this turn.
                    time.sleep(SPIN_SECONDS)
                    with _others_wait(run, runs):
                        try:
                            reached[run] = next(going[run])
                        except StopIteration:
                            del going[run]


def _restore_prompt(runs: Sequence[ProcessRun]) -> bool:
    """Whether both engines can restore the prompt's state; otherwise both evaluate it again."""
    for run in runs:
        with _others_wait(run, runs):
            if not run.restores_prompt():
                return False
    return True


@contextmanager
def _others_wait(run: ProcessRun, runs: Sequence[ProcessRun]) -> Iterator[None]:
    """Check that the other engine is idle during this one's turn."""
    waiting = [(other, other.cpu_seconds()) for other in runs if other is not run]
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    for other, before in waiting:
        other.check_idle(seconds, other.cpu_seconds() - before)
