"""A session that only records; another session starts it, in another source tree."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.loaded_modules import labelled_as_engine, loaded_modules
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.plugin.recording import HeldTest, RecordStage, log_reports
from pytest_llmperf.plugin.selection import is_perf, is_requested, named_markers
from pytest_llmperf.plugin.settings import Settings, settings_of
from pytest_llmperf.plugin.sweeps import SweepGuard, read_cells
from pytest_llmperf.session.base_recording import BaseRecording, RecordingRequest


class RecordingSession:
    """The hooks of a session that only records."""

    def __init__(self, config: pytest.Config, request: Path) -> None:
        self._config = config
        self._request = RecordingRequest.read(request)
        self._stage: RecordStage | None = None
        self._collected: tuple[str, ...] = ()
        self._workloads: dict[str, Workload] = {}
        self._problems: dict[str, str] = {}
        self._broken: dict[str, str] = {}
        self._origins: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record why a file could not be collected."""
        if report.failed:
            self._broken[report.nodeid] = f"could not be collected there:\n{report.longreprtext}"

    def select_wanted(self, items: list[pytest.Item]) -> None:
        """Note all perf tests, and deselect unwanted ones."""
        requested_markers = named_markers(self._config.option.markexpr or "")
        perf = [item for item in items if is_perf(item) and is_requested(item, requested_markers)]
        self._collected = tuple(item.nodeid for item in perf)
        wanted = set(self._request.wanted)
        items[:] = [item for item in perf if item.nodeid in wanted]
        if items:
            # Before any body runs, as a wrong configuration ends the session.
            settings = settings_of(self._config)
            cells, wrong = read_cells(items, settings.setup.llm, settings.setup)
            settings.cells.update(cells)
            self._broken |= wrong
            items[:] = [item for item in items if item.nodeid not in wanted & wrong.keys()]
            if cells:
                self._config.pluginmanager.register(SweepGuard(settings), "llmperf-sweeps")
            self._stage = RecordStage(settings.engine)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Any:
        """Run a test once and keep its workload."""
        assert self._stage is not None
        outcome = self._stage.run(item, nextitem)
        if isinstance(outcome, HeldTest):
            self._workloads[item.nodeid] = outcome.workload
            outcome.log()
        else:
            setup = outcome[0]
            if setup.failed:
                # For example, an engine that can't be loaded, which is not the test's fault.
                self._broken[item.nodeid] = f"its setup failed there: {setup.longreprtext}"
            else:
                self._problems[item.nodeid] = _why(outcome)
            log_reports(item, outcome)
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Listen to the engine while the body runs; then record where its modules came from."""
        assert self._stage is not None
        with self._stage.listening(item):
            result = yield
        with suppress(EngineError):
            engine = settings_of(self._config).engine
            self._origins |= labelled_as_engine(engine.modules(self._request.modules))
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the recording, unless the session failed."""
        ended = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if exitstatus not in (*ended, pytest.ExitCode.NO_TESTS_COLLECTED):
            return
        recording = BaseRecording(
            workloads=self._workloads,
            problems=self._problems,
            collected=self._collected,
            broken=self._broken,
            origins={**loaded_modules(self._request.modules), **self._origins},
            python=sys.version,
            path=tuple(sys.path),
        )
        if self._stage is not None:
            recording = replace(recording, **_engine_of(settings_of(self._config)))
        recording.write(Path(self._request.outcome))


def _engine_of(settings: Settings) -> dict[str, Any]:
    """Return the facts needed to start the engine again."""
    engine = settings.engine
    setup, info = settings.setup, engine.own_info or engine.last_info
    return {
        "spec": setup.spec,
        "config_file": str(setup.loaded.path or ""),
        # Defaults are left out: they may contradict explicit settings, and are added when read.
        "llm": setup.llm.model_dump(mode="json", exclude_unset=True),
        "model": setup.model_identity,
        "engine": f"{info.engine} {info.engine_version}" if info is not None else "",
        "layers": info.gpu.share if info is not None and info.gpu is not None else "",
    }


def _why(reports: list[pytest.TestReport]) -> str:
    """Return why a test's body left nothing to replay."""
    for report in reports:
        if report.failed:
            return f"its {report.when} failed there:\n{report.longreprtext}"
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "skipped"
            return f"it is skipped there: {str(reason).removeprefix('Skipped: ')}"
    return "it makes no request to the engine there"
