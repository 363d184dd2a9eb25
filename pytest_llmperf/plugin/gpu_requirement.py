"""Fails tests without the required layers on a GPU (``perf.require_gpu``, the marker ``gpu``).

Checked at a test's set-up, before its fixtures and body cost time, against
the engine's load report. A shortfall fails the test; nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.gpu_shortfall import GpuRequirement
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.plugin.marker_lines import marker_line
from pytest_llmperf.plugin.markers import MarkerError, marker_levels, refuse_unknown
from pytest_llmperf.plugin.options import usage_error
from pytest_llmperf.plugin.selection import is_perf, uses_engine
from pytest_llmperf.plugin.settings import current_settings, settings_of
from pytest_llmperf.session.setup import ALL_LAYERS

MARKER = "gpu"
_NO_ENGINE = (
    "is about llm_engine, which this test does not use: give the test the argument llm_engine (or "
    "usefixtures), or remove the marker"
)


def read_requirements(items: Sequence[pytest.Item]) -> dict[pytest.Item, GpuRequirement]:
    """Return the requirements of these tests' markers; the closest marker of a test counts.

    Raises:
        pytest.UsageError: naming every marker that is wrong.
    """
    requirements: dict[pytest.Item, GpuRequirement] = {}
    errors = []
    for item in items:
        try:
            closest = next(marker_levels(item, (MARKER,)))
            read = [_read(mark) for mark in closest]
            if any(requirement != read[0] for requirement in read):
                raise MarkerError(
                    "contradicts another gpu marker on the same test; put both arguments into one "
                    "marker"
                )
            if not uses_engine(item):
                raise MarkerError(_NO_ENGINE)
            requirements[item] = read[0]
        except MarkerError as error:
            errors.append(f"{item.nodeid}: marker {MARKER!r} {error}{marker_line(item, MARKER)}")
    if errors:
        raise usage_error("\n".join(errors))
    return requirements


def _read(mark: pytest.Mark) -> GpuRequirement:
    if mark.args:
        raise MarkerError(f"takes its arguments by name: gpu(layers={mark.args[0]!r})")
    refuse_unknown(mark, {"layers", "device"})
    layers: Any = mark.kwargs.get("layers", "all")
    number = isinstance(layers, int) and not isinstance(layers, bool) and layers > 0
    if layers != "all" and not number:
        raise MarkerError(f"layers: expected 'all' or a number above 0, got {layers!r}")
    device: Any = mark.kwargs.get("device")
    if device is not None and (not isinstance(device, str) or not device.strip()):
        raise MarkerError(
            f"device: expected a device's name or a part of it, such as 'CUDA0', got {device!r}"
        )
    return GpuRequirement(None if layers == "all" else layers, device and device.strip())


def guard_gpu(
    config: pytest.Config,
    requirements: Mapping[pytest.Item, GpuRequirement],
    perf: Sequence[pytest.Item],
) -> None:
    """Register a check at the set-up of tests that are required to run on a GPU.

    Args:
        config: pytest's configuration.
        requirements: requirements of the tests with a ``gpu`` marker.
        perf: the session's perf tests.

    Raises:
        pytest.UsageError: the configuration of a session with perf tests is wrong.
    """
    if config.getoption("collectonly"):
        return
    required = bool(perf) and settings_of(config).setup.perf.require_gpu
    if required or requirements:
        config.pluginmanager.register(GpuGuard(config, requirements, required), "llmperf-gpu")


class GpuGuard:
    """Fails tests whose engine lacks required layers on a GPU, before their fixtures."""

    def __init__(
        self,
        config: pytest.Config,
        requirements: Mapping[pytest.Item, GpuRequirement],
        required: bool,
    ) -> None:
        self._config = config
        self._requirements = requirements
        self._required = required
        #: Error of an engine that could not be loaded; it is not retried for every test.
        self._broken: str | None = None

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail a test with the reason, the cause and the remedy."""
        asked = []
        if self._required and is_perf(item):
            asked.append(("perf.require_gpu", ALL_LAYERS))
        if item in self._requirements:
            asked.append((f"marker {MARKER!r}", self._requirements[item]))
        if not asked:
            return
        info, setup = self._info(), settings_of(self._config).setup_of(item.nodeid)
        shortfalls = [setup.shortfall(who, requirement, info) for who, requirement in asked]
        if text := next(filter(None, shortfalls), None):
            pytest.fail(text, pytrace=False)

    def _info(self) -> EngineInfo:
        """Return the info of the session's engine, which is started if necessary."""
        problem = self._broken
        if problem is None:
            try:
                settings = settings_of(self._config)
                if settings.setup.llm.kind.reports_layers:
                    return settings.engine.info
                problem = f"marker {MARKER!r}: {settings.setup.placement_unknown}"
            except (pytest.UsageError, EngineError) as error:
                problem = str(error)
            current = current_settings(self._config)
            if current is None or not current.uses_other_settings:
                self._broken = problem
        pytest.fail(problem, pytrace=False)
