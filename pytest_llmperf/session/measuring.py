"""The measure stage: holds the device, runs the rounds, shows how far they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Keep, Rounds, Undecided
from pytest_llmperf.measure.samples import Measurement, ProcessSample
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.session.cards import cards_of
from pytest_llmperf.session.console import Console
from pytest_llmperf.session.process_watch import ProcessWatch
from pytest_llmperf.session.turns import fits_beside
from pytest_llmperf.session.waiting import FitWait
from pytest_llmperf.session.watch_settings import WatchSettings


class MeasureStage:
    """Measures plans on one machine, one at a time.

    Args:
        watch: what is watched beside engine processes.
        console: where progress is shown.
        wait: the session's account of waiting for the machine to be fit.
        specs: how the engines of both sides are started; None where the caller holds the
            device already.
        in_logs: whether progress is shown where the output is no terminal, too.
    """

    def __init__(
        self,
        watch: WatchSettings,
        console: Console,
        wait: FitWait,
        specs: Sequence[LaunchSpec] | None,
        *,
        in_logs: bool = True,
    ) -> None:
        self._watch = watch
        self._console = console
        self._wait = wait
        self._specs = specs
        self._in_logs = in_logs

    def measure(
        self,
        plan: Plan,
        sides: Sequence[Side],
        undecided: Undecided | None = None,
        earlier: Mapping[str, Sequence[ProcessSample]] | None = None,
        keep: Keep | None = None,
    ) -> Measurement:
        """Replay the plan's workloads until every test is decided, or a budget ends.

        ``undecided``, ``earlier`` and ``keep`` as ``Rounds`` takes them.

        Raises:
            DeviceBusyError: another session does not free the device.
        """
        with self._device(), self._console.progress(plan, in_logs=self._in_logs) as on_step:
            watch = ProcessWatch(self._watch, self._wait)
            rounds = Rounds(
                plan,
                sides,
                watch,
                on_step,
                undecided,
                earlier,
                keep,
                watch.before,
                partial(fits_beside, self._watch, plan.perf.turns),
            )
            measurement = rounds.run()
        if measurement.apart:
            self._console.line(
                "note: processes of a pair followed one another after one that failed side by "
                f"side (perf.turns): {measurement.apart}"
            )
        return measurement

    @contextmanager
    def _device(self) -> Iterator[None]:
        """Hold the device, unless the caller does."""
        if self._specs is None:
            yield
            return
        cards = partial(cards_of, self._specs)
        lock = DeviceLock(notify=self._console.line, cards=cards)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
