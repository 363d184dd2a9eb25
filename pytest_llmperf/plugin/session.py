"""The hooks of a pytest run with perf tests: records, measures, reports."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.calibration.run import CalibrationRun
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.gate.check import Check
from pytest_llmperf.gate.exit_codes import session_exit_code
from pytest_llmperf.gate.verdict import FailPolicy
from pytest_llmperf.gate.words import count
from pytest_llmperf.plugin import benchmark_bridge
from pytest_llmperf.plugin.console import TerminalConsole
from pytest_llmperf.plugin.load_marker import load_problems, read_load, too_few_requests
from pytest_llmperf.plugin.markers import read_budget, read_checks
from pytest_llmperf.plugin.options import Options, usage_error
from pytest_llmperf.plugin.preflight import check_before_loading, read_calibration
from pytest_llmperf.plugin.quality_marker import check_reference, read_quality
from pytest_llmperf.plugin.recording import HeldTest, RecordStage, log_reports, unmeasured
from pytest_llmperf.plugin.report_files import write_reports
from pytest_llmperf.plugin.required_baselines import RequiredBaselines, required_baselines
from pytest_llmperf.plugin.selection import collected_tests, is_perf
from pytest_llmperf.plugin.session_context import session_context
from pytest_llmperf.plugin.settings import load, settings_of
from pytest_llmperf.plugin.sweeps import SweepGuard, read_cells, unique_problems
from pytest_llmperf.plugin.tuning import tuning_run
from pytest_llmperf.plugin.verdict_reports import log_verdicts
from pytest_llmperf.plugin.xdist_mode import NOT_MEASURED, is_xdist_worker
from pytest_llmperf.quality.limits import QualityLimits
from pytest_llmperf.report.calibration import render_calibration
from pytest_llmperf.report.table import render_table
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.session.base_side import SideError
from pytest_llmperf.session.context import SessionContext
from pytest_llmperf.session.recorded import RecordedTest, UnmeasuredTest, with_roofline
from pytest_llmperf.session.result import SessionResult, TestResult
from pytest_llmperf.session.run import SESSION_ERRORS, Session
from pytest_llmperf.tune.errors import TuneError

if TYPE_CHECKING:
    from pytest_llmperf.tune.run import TuneRun


def begin_perf_session(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check everything that can be checked before a model is loaded, then take over the session.

    Raises:
        pytest.UsageError: markers, options, configuration, model file or baselines are wrong.
    """
    collect_only = config.getoption("collectonly")
    # Listing tests must not load a model.
    loaded = load(config) if collect_only else settings_of(config).setup.loaded
    perf = loaded.config.perf
    checks: dict[str, list[Check]] = {}
    quality: dict[str, QualityLimits] = {}
    errors: list[str] = []
    kind = loaded.config.llm.kind
    options = Options.of(config)
    setting = "max_pairs" if options.compares_sides else "max_processes"
    loads = max(getattr(perf, setting), perf.processes)
    for item in items:
        limits, wrong = read_quality(item)
        errors += wrong
        if limits is not None:
            quality[item.nodeid] = limits
        pattern, wrong = read_load(item)
        errors += wrong
        checks[item.nodeid], wrong = read_checks(
            item,
            perf.targets,
            perf.tolerance,
            load=pattern.arrivals if pattern else None,
            in_chunks=kind.loads,
        )
        errors += wrong + read_budget(item)[1]
        if not wrong:
            own = load_problems(item, pattern, checks[item.nodeid], kind)
            own = own or too_few_requests(item, pattern, checks[item.nodeid], loads, setting)
            errors += own
        if config.getoption("llmperf_roofline"):
            checks[item.nodeid] = with_roofline(checks[item.nodeid], perf.tolerance)
    setup = None if collect_only else settings_of(config).setup
    cells, wrong_cells = read_cells(items, loaded.config.llm, setup)
    errors += unique_problems(wrong_cells)
    if errors:
        raise usage_error("\n".join(errors))
    if collect_only:
        return
    if quality and (wrong := check_reference(settings_of(config).setup)):
        raise usage_error("\n".join(wrong))
    console = TerminalConsole(config)
    if cells and options.tune is not None:
        raise usage_error(
            f"llmperf tune: marker 'perf_sweep' gives {next(iter(cells))} engine settings of its "
            "own, and a search compares settings of the whole session; leave such tests out with "
            "-k or --deselect, or remove the marker"
        )
    check_before_loading(config, items, settings_of(config).setup, options)
    context = session_context(config, console)
    tuning = tuning_run(context, options.tune) if options.tune is not None else None
    required = required_baselines(config, items, checks, context, options)
    session = PerfSession(config, options, checks, quality, required, context, console, tuning)
    config.pluginmanager.register(session, "llmperf-session")
    if cells:
        settings_of(config).cells.update(cells)
        config.pluginmanager.register(SweepGuard(settings_of(config)), "llmperf-sweeps")
    session.prepare()


class PerfSession:
    """The hooks of a session that has perf tests."""

    def __init__(
        self,
        config: pytest.Config,
        options: Options,
        checks: dict[str, list[Check]],
        quality: dict[str, QualityLimits],
        required: RequiredBaselines,
        context: SessionContext,
        console: TerminalConsole,
        tuning: TuneRun | None = None,
    ) -> None:
        self._config = config
        self._tuning = tuning
        self._required = required
        self._options = options
        self._checks = checks
        self._quality = quality
        self._engine = settings_of(config).engine
        self._console = console
        self._context = context
        self._session = Session(context)
        self._result: SessionResult | None = None
        self._calibration: CalibrationRun | None = None
        self._stage = RecordStage(self._engine)
        self._held: list[HeldTest] = []
        self._unmeasured: list[UnmeasuredTest] = []
        self._problems: list[str] = []
        self._notes: list[str] = []
        #: The perf tests that ran in this process.
        self._ran: set[str] = set()
        self._policy = FailPolicy(
            require_baseline=options.require_baseline,
            accepting=options.accept is not None,
            strict=context.strict,
        )
        #: The tests that failed only because of their verdicts.
        self._failing: list[TestResult] = []

    def prepare(self) -> None:
        """Prepare the base of the comparison, before anything is loaded.

        Raises:
            pytest.UsageError: it can't be provided.
        """
        try:
            self._session.prepare()
        except ConfigError as error:
            raise usage_error(str(error)) from None
        except (GitError, SideError) as error:
            raise usage_error(f"--llmperf-against: {error}") from None

    def pytest_unconfigure(self) -> None:
        """Remove the other commit's tree, however the session ended."""
        self._session.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Any:
        """Run a perf test once; hold its reports until it is measured."""
        if not is_perf(item):
            return None
        self._ran.add(item.nodeid)
        self._console.recording(item.nodeid)
        outcome = self._stage.run(item, nextitem)
        if is_xdist_worker(self._config):
            reports = outcome.reports if isinstance(outcome, HeldTest) else outcome
            for report in reports:
                report.user_properties.append(NOT_MEASURED)
            log_reports(item, reports)
        elif isinstance(outcome, HeldTest):
            self._held.append(outcome)
        else:
            reports = self._required.as_verdict(item, outcome)
            if lost := unmeasured(item, reports):
                self._unmeasured.append(lost)
            log_reports(item, reports)
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Listen to the engine while the body of a perf test runs."""
        if not is_perf(item):
            return (yield)
        with self._stage.listening(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """After the last body: measure, judge, and report."""
        # Registered last, so that its hook runs before any that starts an engine.
        self._config.pluginmanager.register(self._required, "llmperf-required-baselines")
        try:
            result = yield
            if self._held:
                self._measure_and_judge()
            self._check_all_ran(session)
        except BaseException:
            # -x, --maxfail, Ctrl-C, pytest.exit: unreported tests count as not run.
            self._give_up()
            raise
        return result

    @property
    def _all_problems(self) -> list[str]:
        calibration = self._calibration.problems if self._calibration is not None else []
        return [*self._session.problems, *calibration, *self._problems]

    @property
    def _failures_above(self) -> frozenset[str]:
        """The tests whose failures pytest shows first, so that the table need not explain them."""
        if self._config.getoption("tbstyle", "auto") == "no":
            return frozenset()
        return frozenset(test.nodeid for test in self._failing)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        session, calibration = self._session, self._calibration
        notes = [*session.notes, *self._notes]
        outcome, result = None, self._result or self._partial_result()
        if calibration is not None:
            outcome = calibration.outcome
            notes = [*calibration.notes, *notes]
        if outcome is not None:
            self._console.table(terminalreporter, lambda w, _: render_calibration(outcome, w))
        elif result is not None:
            verbosity = self._config.get_verbosity()
            failures = self._failures_above
            self._console.table(
                terminalreporter,
                lambda w, c: render_table(result, w, c, verbosity, failures=failures),
            )
        elif self._options.record or self._options.reports:
            # An older report may still exist.
            notes.append("nothing was measured, so nothing was recorded or reported")
        if outcome is None and result is not None and self._result is None:
            notes += self._lost_files(result)
        self._console.remarks(terminalreporter, notes, yellow=True)
        self._console.remarks(terminalreporter, self._all_problems, red=True)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Set the exit code for CI, if requested; fail if a file could not be written."""
        if self._all_problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        known = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if self._options.exit_codes and exitstatus in known and not self._all_problems:
            # Other plugins add their own failures (pytest-cov's --cov-fail-under).
            others = session.testsfailed > len(self._failing)
            verdicts = chain.from_iterable(test.verdicts for test in self._failing)
            code = session_exit_code(verdicts, self._policy, ordinary_failures=others)
            session.exitstatus = code or session.exitstatus

    def _measure_and_judge(self) -> None:
        tests = [self._recorded(held) for held in self._held]
        try:
            if self._tuning is not None:
                self._tuning.run(tests, self._engine)
                for held in self._held:
                    held.log()
            elif self._options.calibrate is not None:
                self._calibrate(self._options.calibrate, tests)
            else:
                named = any("::" in argument for argument in self._config.args)
                collected = None if named else collected_tests(self._config)
                result = self._session.run(tests, self._engine, collected)
                self._result = replace(
                    result, policy=self._policy, unmeasured=tuple(self._unmeasured)
                )
                self._report(self._result)
        except (*SESSION_ERRORS, TuneError) as error:
            for held in self._held:
                held.fail(f"this test's body passed, but it could not be measured: {error}")
                held.log()
        self._held = []

    def _check_all_ran(self, session: pytest.Session) -> None:
        """Report perf tests that another plugin ran, such as in processes of its own."""
        if is_xdist_worker(self._config):
            return
        missing = {item.nodeid for item in session.items if is_perf(item)} - self._ran
        if missing:
            (self._notes if self._options.allow_unmeasured else self._problems).append(
                f"{count(len(missing), 'perf test')} not measured: another plugin ran the tests "
                "itself; disable it for perf tests (-p no:NAME)"
            )

    def _recorded(self, held: HeldTest) -> RecordedTest:
        """Return what was recorded of a test, and what its markers ask for."""
        budget, _ = read_budget(held.item)
        nodeid = held.item.nodeid
        cell = settings_of(self._config).cells.get(nodeid)
        if cell is not None:
            cell = replace(cell, info=held.info)
        return RecordedTest(
            nodeid,
            held.workload,
            held.seconds,
            self._checks[nodeid],
            budget,
            self._quality.get(nodeid),
            cell,
            held.location,
        )

    def _calibrate(self, request: Path, tests: Sequence[RecordedTest]) -> None:
        """Judge the tests against themselves, as often as `llmperf calibrate` requests."""
        self._calibration = CalibrationRun(self._context, read_calibration(request))
        errors = self._calibration.run(tests, self._engine)
        for held in self._held:
            if text := errors.get(held.item.nodeid):
                held.fail(text)
            held.log()

    def _report(self, result: SessionResult) -> None:
        """Write and report the result; a failed write loses no verdict."""
        if self._options.reports:
            self._problems += write_reports(self._config, self._options, self._context, result)
        assert self._session.trial is not None
        benchmark_bridge.publish(self._config, self._held, self._session.trial.measurement, result)
        self._failing = log_verdicts(self._config, self._held, result, self._policy)

    def _partial_result(self) -> SessionResult | None:
        """Return the judged result of a session that ended early; None if nothing was measured."""
        result = self._session.partial_result()
        if result is None:
            return None
        return replace(result, policy=self._policy, unmeasured=tuple(self._unmeasured))

    def _lost_files(self, partial: SessionResult) -> list[str]:
        """Name the files that a session that ended early did not write."""
        lost = []
        if self._options.record and not partial.recorded_to:
            lost.append("this session was interrupted before it was recorded")
        lost += [
            f"{path} was not written: the session was interrupted"
            for path in self._options.reports.values()
        ]
        return lost

    def _give_up(self) -> None:
        """Leave recorded tests unreported, as tests that did not run, and print a note.

        Reported as skipped they would count as run, and ``--lf`` would forget them.
        """
        if self._held:
            names = ", ".join(held.item.nodeid for held in self._held)
            measured = self._session.partial_result() is not None
            what = "judged, but not reported as run" if measured else "not measured"
            self._notes.append(f"{what}, because the session stopped before: {names}")
        self._held = []
