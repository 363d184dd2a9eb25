"""A session with perf tests: record, measure, judge; wires the lower floors to pytest's hooks."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.gate.check import Check
from pytest_llmperf.gate.combine import worst
from pytest_llmperf.gate.exit_codes import session_exit_code
from pytest_llmperf.gate.verdict import FailPolicy, Verdict, verdict_fails
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Rounds
from pytest_llmperf.measure.samples import Measurement
from pytest_llmperf.plugin import benchmark_bridge
from pytest_llmperf.plugin.commands import as_argument, command_stem
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.facts import MachineWatch, SessionFacts, gather_facts
from pytest_llmperf.plugin.judging import judge_session, record_session
from pytest_llmperf.plugin.markers import is_perf, read_checks
from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.outcome import fail_report
from pytest_llmperf.plugin.planning import make_plan
from pytest_llmperf.plugin.preflight import check_before_loading
from pytest_llmperf.plugin.recording import Recording, RecordStage
from pytest_llmperf.plugin.runner_protocol import log_reports
from pytest_llmperf.plugin.settings import Settings, load, settings_of
from pytest_llmperf.plugin.xdist_mode import NOT_MEASURED, is_xdist_worker
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.json_report import ReportError, write_json
from pytest_llmperf.report.model import SessionView
from pytest_llmperf.report.properties import junit_properties
from pytest_llmperf.report.table import render_table


def begin_perf_session(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check everything that can be checked before a model is loaded, then take the session over.

    Raises:
        pytest.UsageError: markers, options, configuration, model file or baselines are wrong.
    """
    collect_only = config.getoption("collectonly")
    # Listing tests must not bring a model.
    loaded = load(config) if collect_only else settings_of(config).loaded
    perf = loaded.config.perf
    checks: dict[str, list[Check]] = {}
    errors: list[str] = []
    for item in items:
        checks[item.nodeid], wrong = read_checks(item, perf.targets, perf.tolerance)
        errors += wrong
    if errors:
        raise pytest.UsageError("llmperf: " + "\n".join(errors))
    if collect_only:
        return
    options, settings = Options.of(config), settings_of(config)
    check_before_loading(config, items, settings, options)
    config.pluginmanager.register(PerfSession(config, settings, options, checks), "llmperf-session")


class PerfSession:
    """The hooks of a session that has perf tests."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        options: Options,
        checks: dict[str, list[Check]],
    ) -> None:
        self._config = config
        self._settings = settings
        self._options = options
        self._checks = checks
        self._console = Console(config)
        self._stage = RecordStage(settings.engine)
        self._held: list[Recording] = []
        self._view: SessionView | None = None
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._policy = FailPolicy(
            require_baseline=options.require_baseline, accepting=options.accept is not None
        )
        #: Of the tests that failed for nothing but their verdicts.
        self._failing: list[Verdict] = []
        self._verdict_failures = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Any:
        """Run a perf test once; hold its reports until it is measured."""
        if not is_perf(item):
            return None
        self._console.recording(item.nodeid)
        outcome = self._stage.run(item, nextitem, self._checks[item.nodeid])
        if is_xdist_worker(self._config):
            reports = outcome.reports if isinstance(outcome, Recording) else outcome
            for report in reports:
                report.user_properties.append(NOT_MEASURED)
            log_reports(item, reports)
        elif isinstance(outcome, Recording):
            self._held.append(outcome)
        else:
            log_reports(item, outcome)
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Listen to the engine while the body of a perf test runs."""
        if not is_perf(item):
            return (yield)
        with self._stage.listening(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """After the last body: measure, judge, and report."""
        try:
            result = yield
            if self._held:
                self._measure_and_judge()
        except BaseException:
            # -x, --maxfail, Ctrl-C, pytest.exit: to pytest, what is not reported did not run.
            self._give_up()
            raise
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        if self._view is not None:
            view = self._view
            self._console.table(terminalreporter, lambda w, c: render_table(view, w, c))
        elif self._options.record or self._options.json_path is not None:
            # An older report may lie there still.
            self._notes.append("nothing was measured, so nothing was recorded or reported")
        self._console.remarks(terminalreporter, self._notes)
        self._console.problems(terminalreporter, self._problems)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Tell CI why, where it asked for it, and never be green with a file unwritten."""
        if self._problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        known = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if self._options.exit_codes and exitstatus in known and not self._problems:
            # Other plugins count failures of their own there (pytest-cov's --cov-fail-under).
            others = session.testsfailed > self._verdict_failures
            code = session_exit_code(self._failing, self._policy, ordinary_failures=others)
            session.exitstatus = code or session.exitstatus

    def _measure_and_judge(self) -> None:
        try:
            self._measure_held()
        except (EngineError, BaselineError) as error:
            # Such as a device that another session does not free, or a baseline broken meanwhile.
            self._fail_held(f"this test's body passed, but it could not be measured: {error}")

    def _measure_held(self) -> None:
        engine, perf = self._settings.engine, self._settings.loaded.config.perf
        start_seconds = engine.start_seconds
        facts = gather_facts(self._config, self._settings)
        # The bodies' engine must free the device before the first round takes it.
        engine.close()
        plan = make_plan(self._held, perf, start_seconds)
        self._console.plan(plan, facts)
        measurement = self._measure(plan, facts)
        self._view = judge_session(self._held, measurement, plan, facts)
        self._finish(measurement, facts)

    def _measure(self, plan: Plan, facts: SessionFacts) -> Measurement:
        from pytest_llmperf.engine.client import EngineClient
        from pytest_llmperf.engine.device_lock import DeviceLock

        lock = DeviceLock(notify=self._console.line)
        lock.acquire()
        try:
            with self._console.progress(plan) as tell:
                rounds = Rounds(
                    plan,
                    start=lambda: EngineClient.start(self._settings.spec),
                    watch=lambda: MachineWatch(facts),
                    on_step=tell,
                )
                return rounds.run()
        finally:
            lock.release()

    def _finish(self, measurement: Measurement, facts: SessionFacts) -> None:
        """Store, write and report what was found; a file that can't be written loses no verdict."""
        assert self._view is not None
        if self._options.record:
            try:
                path = record_session(
                    self._held, measurement, self._view, facts, self._options.accept
                )
                self._view = replace(self._view, recorded_to=str(path))
                if self._options.accept is not None:
                    self._notes.append(
                        "accepted: from now on this session's level is the one to compare with, "
                        "but for tests that were invalid or not measured "
                        f"({self._options.accept})"
                    )
            except BaselineError as error:
                self._problems.append(f"the baseline was not recorded: {error}")
        if self._options.json_path is not None:
            try:
                write_json(self._options.json_path, self._view)
            except ReportError as error:
                self._problems.append(str(error))
        benchmark_bridge.publish(self._config, self._held, measurement)
        self._report()

    def _report(self) -> None:
        assert self._view is not None
        view = self._view
        for recording, test in zip(self._held, view.tests, strict=True):
            text = failure_text(
                test,
                busy=view.busy,
                policy=self._policy,
                command=command_stem(self._config),
                argument=as_argument(self._config, test.nodeid),
            )
            for name, value in junit_properties(test):
                for report in recording.reports:
                    report.user_properties.append((name, value))
            if text:
                failing = worst(v for v in test.verdicts if verdict_fails(v, self._policy))
                summary = f"{failing.kind.value}: {failing.explanation}"
                fail_report(recording.call, text, recording.item, summary)
                if recording.call.failed:
                    self._verdict_failures += 1
                    self._failing += test.verdicts
            log_reports(recording.item, recording.reports)
        self._held = []

    def _fail_held(self, text: str) -> None:
        """Fail every recorded test: there will be no verdicts."""
        for recording in self._held:
            fail_report(recording.call, text, recording.item)
            log_reports(recording.item, recording.reports)
        self._held = []

    def _give_up(self) -> None:
        """Leave recorded tests unreported, as tests that did not run, and say so.

        Reported as skipped they would pass for looked at: ``--lf`` would forget them.
        """
        if self._held:
            names = ", ".join(recording.item.nodeid for recording in self._held)
            self._notes.append(f"not measured, because the session stopped before: {names}")
        self._held = []
