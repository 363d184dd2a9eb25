"""A session with perf tests: record, measure, judge; wires the lower floors to pytest's hooks."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.gate.calibration import Calibration
from pytest_llmperf.gate.check import Check
from pytest_llmperf.gate.exit_codes import session_exit_code
from pytest_llmperf.gate.verdict import FailPolicy, Verdict
from pytest_llmperf.measure.samples import Measurement
from pytest_llmperf.plugin import benchmark_bridge
from pytest_llmperf.plugin.against import Against
from pytest_llmperf.plugin.calibrating import Calibrator
from pytest_llmperf.plugin.calibration_request import CalibrationRequest
from pytest_llmperf.plugin.confirming import Confirmer
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.diagnosing import with_diagnosis
from pytest_llmperf.plugin.facts import SessionFacts, gather_facts
from pytest_llmperf.plugin.fitness import fit_wait, told_waiting
from pytest_llmperf.plugin.judging import session_view
from pytest_llmperf.plugin.markers import read_budget, read_checks
from pytest_llmperf.plugin.measuring import MeasureStage
from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.outcome import fail_report
from pytest_llmperf.plugin.preflight import check_before_loading, places_to_write
from pytest_llmperf.plugin.recording import Recording, RecordStage
from pytest_llmperf.plugin.recording_there import ArmError
from pytest_llmperf.plugin.required_baselines import RequiredBaselines, required_baselines
from pytest_llmperf.plugin.roofline_facts import RooflineMeter, with_roofline
from pytest_llmperf.plugin.runner_protocol import log_reports
from pytest_llmperf.plugin.selection import is_perf
from pytest_llmperf.plugin.session_base import SessionBase
from pytest_llmperf.plugin.settings import Settings, load, settings_of
from pytest_llmperf.plugin.storing import record_session
from pytest_llmperf.plugin.trial import Trial, Trials
from pytest_llmperf.plugin.unchanged import Present
from pytest_llmperf.plugin.usage import usage_error
from pytest_llmperf.plugin.verdict_reports import log_verdicts
from pytest_llmperf.plugin.waiting import FitWait
from pytest_llmperf.plugin.xdist_mode import NOT_MEASURED, is_xdist_worker
from pytest_llmperf.report.calibration import render_calibration
from pytest_llmperf.report.json_report import ReportError, write_json
from pytest_llmperf.report.model import SessionView
from pytest_llmperf.report.table import render_table
from pytest_llmperf.repository.git import GitError


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
        errors += wrong + read_budget(item)[1]
        if config.getoption("llmperf_roofline"):
            checks[item.nodeid] = with_roofline(checks[item.nodeid], perf.tolerance)
    if errors:
        raise usage_error("\n".join(errors))
    if collect_only:
        return
    options, settings = Options.of(config), settings_of(config)
    check_before_loading(config, items, settings, options)
    required = required_baselines(config, items, checks, settings, options)
    session = PerfSession(config, settings, options, checks, required)
    config.pluginmanager.register(session, "llmperf-session")
    session.prepare()


class PerfSession:
    """The hooks of a session that has perf tests."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        options: Options,
        checks: dict[str, list[Check]],
        required: RequiredBaselines,
    ) -> None:
        self._config = config
        self._required = required
        self._settings = settings
        self._options = options
        self._checks = checks
        self._console = Console(config)
        self._base = SessionBase(config, settings, options, self._console)
        self._stage = RecordStage(settings.engine)
        self._held: list[Recording] = []
        self._view: SessionView | None = None
        self._calibration: Calibration | None = None
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._policy = FailPolicy(
            require_baseline=options.require_baseline,
            accepting=options.accept is not None,
            strict=options.strict or settings.loaded.config.perf.strict,
        )
        #: Of the tests that failed for nothing but their verdicts.
        self._failing: list[Verdict] = []
        self._verdict_failures = 0

    def prepare(self) -> None:
        """Bring what the session is to be compared with, before anything is loaded.

        Raises:
            pytest.UsageError: it can't be had.
        """
        self._base.prepare()

    def pytest_unconfigure(self) -> None:
        """Remove the other commit's tree, however the session ended."""
        self._base.close()

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
            log_reports(item, self._required.as_verdict(item, outcome))
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
        # Last of all, so that its hook comes before any that starts an engine.
        self._config.pluginmanager.register(self._required, "llmperf-required-baselines")
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
        if self._calibration is not None:
            found = self._calibration
            self._console.table(terminalreporter, lambda w, _: render_calibration(found, w))
        elif self._view is not None:
            view, brief = self._view, self._config.get_verbosity() < 0
            self._console.table(terminalreporter, lambda w, c: render_table(view, w, c, brief))
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
        except (EngineError, BaselineError, GitError, ArmError) as error:
            # Such as a device that another session does not free, or a baseline broken meanwhile.
            self._fail_held(f"this test's body passed, but it could not be measured: {error}")

    def _measure_held(self) -> None:
        engine = self._settings.engine
        start_seconds = engine.start_seconds
        origins = self._base.own_origins()
        # The bodies' engine must free the device before another process takes it.
        engine.close()
        against = self._base.arm(self._held, list(self._checks), origins)
        asked = [check for recording in self._held for check in recording.checks]
        facts = replace(gather_facts(self._config, self._settings), roofline=RooflineMeter(asked))
        try:
            self._measure_with(facts, against, origins, start_seconds)
        finally:
            facts.close()

    def _measure_with(
        self,
        facts: SessionFacts,
        against: Against | None,
        origins: Mapping[str, str],
        start_seconds: float,
    ) -> None:
        perf = self._settings.loaded.config.perf
        if problems := places_to_write(self._settings, self._options, facts.machine.key):
            raise BaselineError("\n".join(problems))
        if self._options.calibrate is not None:
            self._calibrate(self._options.calibrate, facts, start_seconds)
            return
        self._console.notes(facts)
        trials = Trials(self._config, self._settings, facts, self._console, start_seconds)
        trial = trials.run(self._held, against, alpha=perf.false_alarms)
        view = replace(
            session_view(trial, facts), false_alarms=perf.false_alarms, strict=self._policy.strict
        )
        # Stored before anything is confirmed, and shown if that is interrupted.
        present = Present(self._config, self._settings, facts)
        self._view = view = self._record(trial, view, facts, present)
        # A session that is compared with another side has no stored verdicts to confirm.
        if against is None:
            confirmer = Confirmer(
                self._config,
                self._settings,
                facts,
                self._console,
                start_seconds,
                origins,
                present,
                self._options.confirming,
            )
            view = confirmer.confirmed(trial, view)
        view = told_waiting(view, self._wait())
        self._view = with_diagnosis(view, trial, facts, self._config)
        self._finish(self._view, trial.measurement)

    def _wait(self) -> FitWait:
        return fit_wait(self._config, self._settings, self._console)

    def _calibrate(self, path: Path, facts: SessionFacts, start_seconds: float) -> None:
        """Judge the tests against themselves, as often as `llmperf calibrate` asks for."""
        request = CalibrationRequest.read(path)
        calibrator = Calibrator(
            request,
            self._held,
            self._settings,
            facts,
            start_seconds,
            MeasureStage(facts, self._console, self._wait(), in_logs=False).measure,
            self._console.line,
        )
        try:
            calibrator.run()
        finally:
            if calibrator.runs:
                self._calibration = calibrator.outcome()
        told, problems = calibrator.keep(self._calibration)
        self._notes += told
        self._problems += problems
        for recording in self._held:
            if text := calibrator.errors.get(recording.item.nodeid):
                fail_report(recording.call, text, recording.item)
            log_reports(recording.item, recording.reports)
        self._held = []

    def _record(
        self, trial: Trial, view: SessionView, facts: SessionFacts, present: Present
    ) -> SessionView:
        """Store the session where that was asked for; what can't be written loses no verdict."""
        if not self._options.record:
            return view
        try:
            accept = self._options.accept
            path = record_session(trial, view, facts, present.provenance, accept)
        except BaselineError as error:
            self._problems.append(f"the baseline was not recorded: {error}")
            return view
        if self._options.accept is not None:
            self._notes.append(
                "accepted: from now on this session's level is the one to compare with, "
                "but for tests that were invalid or not measured "
                f"({self._options.accept})"
            )
        return replace(view, recorded_to=str(path))

    def _finish(self, view: SessionView, measurement: Measurement) -> None:
        """Write and report what was found; a file that can't be written loses no verdict."""
        if self._options.json_path is not None:
            try:
                write_json(self._options.json_path, view)
            except ReportError as error:
                self._problems.append(str(error))
        benchmark_bridge.publish(self._config, self._held, measurement, view)
        failed = log_verdicts(self._config, self._held, view, self._policy)
        self._verdict_failures += len(failed)
        self._failing += chain.from_iterable(failed)
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
            what = "not measured" if self._view is None else "measured, but not confirmed"
            self._notes.append(f"{what}, because the session stopped before: {names}")
        self._held = []
