"""Handles pytest-xdist, whose workers can't measure: perf tests are refused, or run unmeasured."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.plugin.options import Options

#: Property of a report whose test was not measured; it travels from worker to controller.
NOT_MEASURED = ("llmperf_not_measured", "other pytest-xdist workers were busy")
#: Key, in a worker's input, of the file whose existence means that there are perf tests.
_FOUND = "llmperf_found"
_HOW_TO_MEASURE = "  measure in one process: pytest -m perf -n 0"


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether this process is one of pytest-xdist's workers."""
    return hasattr(config, "workerinput")


def run_in_one_process(config: pytest.Config) -> None:
    """Take back the workers that the project's settings ask for, such as ``addopts = -n auto``."""
    if hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []


def report_to_controller(config: pytest.Config) -> None:
    """Report, on a worker, that there are perf tests, as the controller collects none."""
    marker_file = getattr(config, "workerinput", {}).get(_FOUND)
    if marker_file is not None:
        # On another machine (--tx ssh=...) the controller's folder does not exist.
        with suppress(OSError):
            Path(marker_file).touch()


def _refusal(options: Sequence[str], allowed: bool) -> str:
    """Return why the session is refused if there are perf tests; "" if it isn't."""
    if options:
        return (
            f"llmperf: {', '.join(options)}: nothing is measured while several pytest-xdist "
            f"workers run\n{_HOW_TO_MEASURE}"
        )
    if allowed:
        return ""
    return (
        "llmperf: perf tests can't be measured while several pytest-xdist workers run: the "
        f"workers would slow each other down\n{_HOW_TO_MEASURE}\n"
        "  run the bodies without measuring: --llmperf-allow-unmeasured"
    )


def _selects_perf_tests(config: pytest.Config, options: Options) -> bool:
    """Whether ``-m`` selects only our perf tests; without our configuration they may be others."""
    from pytest_llmperf.plugin.selection import selects_only_ours
    from pytest_llmperf.plugin.settings import project_of

    configured = options.config_file is not None or project_of(config).is_configured
    return configured and selects_only_ours(config.option.markexpr or "")


class RefusedOnWorker:
    """Fails perf tests with a usage error's message, as xdist's workers can't report one."""

    def __init__(self, why: str) -> None:
        self._why = why

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail before any fixture of the test."""
        from pytest_llmperf.plugin.selection import asks_for_gpu, is_perf

        if is_perf(item) or asks_for_gpu(item):
            pytest.fail(self._why, pytrace=False)


class XdistController:
    """Refuses, in the controller, a session whose perf tests could not be measured.

    It does so before a worker starts if ``-m`` selects only perf tests of a configured project,
    else as soon as a worker has collected one. With ``--llmperf-allow-unmeasured`` the bodies
    run; then their number is printed.

    Raises:
        pytest.UsageError: it says how to measure them.
    """

    def __init__(self, config: pytest.Config) -> None:
        from pytest_llmperf.plugin.options import Options

        self._count = 0
        options = Options.of(config)
        # Fixtures are set up on request only (--setup-only, --setup-plan): no body runs.
        self._allowed = options.allow_unmeasured or bool(config.option.setuponly)
        self._refusal = _refusal(options.needing_measurement, self._allowed)
        if self._refusal and _selects_perf_tests(config, options):
            raise pytest.UsageError(self._refusal)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if self._refusal:
            self._folder = tempfile.TemporaryDirectory(prefix="llmperf-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass a worker the file by which it reports perf tests."""
        if self._folder is not None:
            node.workerinput[_FOUND] = str(Path(self._folder.name, "found"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Refuse perf tests that would not be measured.

        Raises:
            pytest.UsageError: it says how to measure them.
        """
        if self._folder is not None and Path(self._folder.name, "found").exists():
            raise pytest.UsageError(self._refusal)

    def pytest_unconfigure(self) -> None:
        """Remove the workers' files."""
        if self._folder is not None:
            self._folder.cleanup()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count each test once."""
        if report.when == "call" and tuple(NOT_MEASURED) in map(tuple, report.user_properties):
            self._count += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail where a worker on another machine, which shares no file, ran perf tests."""
        if self._count and not self._allowed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print that nothing was measured, and how to measure."""
        if self._count:
            plural = "s" if self._count != 1 else ""
            terminalreporter.section("LLM performance")
            terminalreporter.write_line(
                f"not measured: the bodies of {self._count} perf test{plural} ran; speed can't be "
                f"measured while other pytest-xdist workers use the machine\n{_HOW_TO_MEASURE}",
                red=not self._allowed,
                yellow=self._allowed,
            )
