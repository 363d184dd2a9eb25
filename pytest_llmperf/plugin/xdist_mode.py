"""Under pytest-xdist the bodies of perf tests run and nothing is measured; says so."""

from __future__ import annotations

from typing import Any

import pytest

#: Property of a report whose test was not measured; it travels from worker to controller.
NOT_MEASURED = ("llmperf_not_measured", "other pytest-xdist workers were busy")


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether this process is one of pytest-xdist's workers."""
    return hasattr(config, "workerinput")


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
