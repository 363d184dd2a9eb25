"""The measure stage: holds the device, runs the rounds, shows how far they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.measure.arms import Arm
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Keep, Rounds
from pytest_llmperf.measure.samples import Measurement, ProcessSample
from pytest_llmperf.session.console import Console
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.process_watch import ProcessWatch
from pytest_llmperf.session.session_gate import SessionGate
from pytest_llmperf.session.turns import fits_beside
from pytest_llmperf.session.waiting import FitWait


class MeasureStage:
    """Measures plans on one machine, one at a time.

    Args:
        facts: what the machine's watch has to know.
        console: where progress is shown.
        wait: the session's account of waiting for the machine to be fit.
        in_logs: whether it is shown where the output is no terminal, too.
    """

    def __init__(
        self, facts: SessionFacts, console: Console, wait: FitWait, *, in_logs: bool = True
    ) -> None:
        self._facts = facts
        self._console = console
        self._wait = wait
        self._in_logs = in_logs

    def measure(
        self,
        plan: Plan,
        arms: Sequence[Arm],
        gate: SessionGate,
        earlier: Mapping[str, Sequence[ProcessSample]] | None = None,
        keep: Keep | None = None,
    ) -> Measurement:
        """Replay the plan's workloads until the gate has decided every test, or a budget ends.

        ``earlier`` and ``keep`` as ``Rounds`` takes them.

        Raises:
            DeviceBusyError: another session does not free the device.
        """
        lock = DeviceLock(notify=self._console.line)
        lock.acquire()
        try:
            with self._console.progress(plan, in_logs=self._in_logs) as tell:
                watch = ProcessWatch(self._facts, self._wait)
                rounds = Rounds(
                    plan,
                    arms,
                    watch,
                    tell,
                    gate.undecided,
                    earlier,
                    keep,
                    watch.before,
                    partial(fits_beside, self._facts, plan.turns),
                )
                measurement = rounds.run()
        finally:
            lock.release()
        if measurement.apart:
            self._console.line(
                "note: processes of a pair followed one another after one that failed side by "
                f"side (perf.turns): {measurement.apart}"
            )
        return measurement
