"""Configurations of a search that were started, with the newest look at each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.session.setup import with_settings
from pytest_llmperf.tune.errors import TuneError
from pytest_llmperf.tune.look import FAR, FirstLook, LookError, look
from pytest_llmperf.tune.race import Runner
from pytest_llmperf.tune.space import shown

if TYPE_CHECKING:
    from pytest_llmperf.session.machine_watch import WatchSettings
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.tune.fit import MemoryBounds
    from pytest_llmperf.tune.result import Point
    from pytest_llmperf.tune.space import Settings


class Runners:
    """Looks at configurations, and keeps the newest successful look at each.

    Args:
        setup: today's configuration.
        tests: recorded tests to replay.
        watch: settings of the machine's watch.
        memory: bounds on the memory of a configuration.
    """

    def __init__(
        self,
        setup: EngineSetup,
        tests: Sequence[RecordedTest],
        watch: WatchSettings,
        memory: MemoryBounds,
    ) -> None:
        self._setup = setup
        self._tests = tests
        self._watch = watch
        self._memory = memory
        self._known: dict[int, Runner] = {}

    def looked_at(self, best: Point | None) -> Runner | None:
        """Return the best point (None: today's configuration) if it was looked at, or None."""
        return self._known.get(_number(best))

    def keep(self, number: int, runner: Runner) -> None:
        """Keep the look at a point."""
        self._known[number] = runner

    def best_runner(self, best: Point | None) -> Runner:
        """Return the best point (None: today's configuration), with a look if there is none yet.

        Raises:
            TuneError: the configuration can't be measured.
        """
        if (known := self.looked_at(best)) is not None:
            return known
        changed = best.settings if best is not None else {}
        setup = with_settings(self._setup, changed) if changed else self._setup
        try:
            runner = Runner(setup, self._look(setup, None))
        except LookError as error:
            what = f"the best point ({shown(changed)})" if changed else "today's configuration"
            raise TuneError(f"{what} can't be measured: {error.reason}") from None
        self._known[_number(best)] = runner
        return runner

    def look_again(self, best: Point | None) -> Runner:
        """Look at the best point again; return the earlier look if it can't be measured now."""
        runner = self.best_runner(best)
        with suppress(LookError):
            self._known[_number(best)] = Runner(runner.setup, self._look(runner.setup, None))
        return self.best_runner(best)

    def best_and_candidate(self, best: Point | None, changed: Settings) -> tuple[Runner, Runner]:
        """Return the best point, and the changed settings with a first look at them.

        Raises:
            LookError: the settings can't be measured, or exceed a bound.
            TuneError: the best point can't be measured.
        """
        leader = self.best_runner(best)
        try:
            return leader, self._first(changed, leader.look)
        except LookError as error:
            if error.outcome != "lost":
                raise
            # The time limit came from the best point's look, which may be outdated by now.
            before, leader = leader.look.longest, self.look_again(best)
            if leader.look.longest < FAR * before:
                raise
        return leader, self._first(changed, leader.look)

    def _first(self, changed: Settings, best: FirstLook) -> Runner:
        """Check the bounds of changed settings, and take a first look at them.

        Raises:
            LookError: the settings can't be measured, or exceed a bound.
        """
        try:
            setup = with_settings(self._setup, changed)
        except (ConfigError, EngineError) as error:
            raise LookError("unsupported", str(error).splitlines()[-1].strip()) from None
        if refused := self._memory.refused(setup):
            raise LookError(*refused)
        seen = self._look(setup, best)
        if why := self._memory.free.over_limit(seen.memory, "its process used"):
            raise LookError("rejected", why)
        return Runner(setup, seen)

    def _look(self, setup: EngineSetup, best: FirstLook | None) -> FirstLook:
        return look(setup.spec, self._tests, self._watch, self._setup.perf, best)


def _number(best: Point | None) -> int:
    """Return a point's number; 0 is today's configuration."""
    return best.number if best is not None else 0
