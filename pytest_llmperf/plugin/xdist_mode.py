"""Handles pytest-xdist: bodies of perf tests run, nothing is measured, a notice says so."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.selection import asks_for_gpu, is_perf

#: Property of a report whose test was not measured; it travels from worker to controller.
NOT_MEASURED = ("llmperf_not_measured", "other pytest-xdist workers were busy")
#: Key, in a worker's input, of the file whose existence means that there are perf tests.
_FOUND = "llmperf_found"


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether this process is one of pytest-xdist's workers."""
    return hasattr(config, "workerinput")


def report_to_controller(config: pytest.Config) -> None:
    """Report, on a worker, that there are perf tests, as the controller collects none."""
    found = getattr(config, "workerinput", {}).get(_FOUND)
    if found is not None:
        Path(found).touch()


def _what_needs_measuring(config: pytest.Config) -> str:
    """Return a message if there are options that need a measurement; else ""."""
    names = Options.of(config).needing_measurement
    if not names:
        return ""
    return (
        f"llmperf: {', '.join(names)}: nothing is measured while several pytest-xdist workers "
        "run; run pytest -m perf without -n"
    )


class RefusedOnWorker:
    """Fails perf tests with a usage error's message, as xdist's workers can't report one."""

    def __init__(self, why: str) -> None:
        self._why = why

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail before any fixture of the test."""
        if is_perf(item) or asks_for_gpu(item):
            pytest.fail(self._why, pytrace=False)


class XdistNotice:
    """Counts, in the controller, the perf tests whose bodies ran unmeasured.

    It also refuses the session, as soon as a worker has found a perf test, where options
    need a measurement.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._count = 0
        self._refusal = _what_needs_measuring(config)
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
        """Refuse options that need a measurement.

        Raises:
            pytest.UsageError: naming them.
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

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print that nothing was measured, and how to measure."""
        if self._count:
            plural = "s" if self._count != 1 else ""
            terminalreporter.section("LLM performance")
            terminalreporter.write_line(
                f"not measured: the bodies of {self._count} perf test{plural} ran; speed can't be "
                "measured while other pytest-xdist workers use the machine; run pytest -m perf "
                "without -n"
            )
