"""Under pytest-xdist the bodies of perf tests run and nothing is measured; says so."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.selection import asks_for_gpu, is_perf

#: Property of a report whose test was not measured; it travels from worker to controller.
NOT_MEASURED = ("llmperf_not_measured", "other pytest-xdist workers were busy")


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether this process is one of pytest-xdist's workers."""
    return hasattr(config, "workerinput")


def refuse_to_store(config: pytest.Config) -> None:
    """Refuse, in the controller, options that need the measurement there won't be.

    Raises:
        pytest.UsageError: naming them.
    """
    options = Options.of(config)
    asked = {
        "--llmperf-record": options.record and options.accept is None,
        "--llmperf-accept": options.accept is not None,
        "--llmperf-against": options.against is not None,
        "--llmperf-against-config": options.against_config is not None,
        "--llmperf-require-baseline": options.require_baseline,
        "--llmperf-json": options.json_path is not None,
    }
    names = [name for name, given in asked.items() if given]
    if names:
        raise pytest.UsageError(
            f"llmperf: {', '.join(names)}: nothing is measured while several pytest-xdist workers "
            "run; run pytest -m perf without -n"
        )


class RefusedOnWorker:
    """Fails the tests it concerns for a usage error: xdist's workers can't report one."""

    def __init__(self, why: str) -> None:
        self._why = why

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail before any fixture of the test."""
        if is_perf(item) or asks_for_gpu(item):
            pytest.fail(self._why, pytrace=False)


class XdistNotice:
    """Counts, in the controller, the perf tests whose bodies ran unmeasured."""

    def __init__(self) -> None:
        self._count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count each test once."""
        if report.when == "call" and tuple(NOT_MEASURED) in map(tuple, report.user_properties):
            self._count += 1

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say that nothing was measured, and how to measure."""
        if self._count:
            plural = "s" if self._count != 1 else ""
            terminalreporter.section("LLM performance")
            terminalreporter.write_line(
                f"not measured: the bodies of {self._count} perf test{plural} ran, but while other "
                "pytest-xdist workers keep the machine busy no speed can be told; "
                "run pytest -m perf without -n"
            )
