"""The pytest plugin's entry point: options, markers, the fixture, selection of perf tests.

Imports no heavy modules: a session without perf tests loads only this file and what it
imports at its top.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

# Saves the clock before a test library (freezegun) can replace it.
import pytest_llmperf.engine.own_time  # noqa: F401
from pytest_llmperf.plugin.fixtures import _sweep_parameter, llm_engine
from pytest_llmperf.plugin.markers import MARKERS, PLAIN_MARKERS
from pytest_llmperf.plugin.options import add_options
from pytest_llmperf.plugin.selection import (
    asks_for_gpu,
    imply_perf,
    is_perf,
    is_requested,
    named_markers,
    remember_collected,
    uses_engine,
)
from pytest_llmperf.plugin.settings import current_settings, header_lines

__all__ = ["_sweep_parameter", "llm_engine"]

#: Name under which the hooks of a recording session are registered.
RECORDING = "llmperf-recording-session"
#: Numbers of perf tests left out, and of tests whose markers only share our markers' names.
_LEFT_OUT_COUNT = pytest.StashKey[int]()
_LOOKALIKE_COUNT = pytest.StashKey[int]()
#: Collected tests that use the engine, also those that ``-m`` deselects.
_ENGINE_TESTS = pytest.StashKey[list[pytest.Item]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for line in (*MARKERS.values(), *PLAIN_MARKERS.values()):
        config.addinivalue_line("markers", line)
    request = config.getoption("llmperf_record_for")
    if request:
        from pytest_llmperf.plugin.recording_session import RecordingSession

        config.pluginmanager.register(RecordingSession(config, Path(request)), RECORDING)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Keep a session of our own commands in one process, before pytest-xdist distributes it."""
    if config.getoption("llmperf_one_process"):
        from pytest_llmperf.plugin.xdist_mode import run_in_one_process

        run_in_one_process(config)
    return (yield)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the configuration and the model of a session that may measure."""
    return header_lines(config) if _named(config) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one test for each cell of a sweep."""
    if metafunc.definition.get_closest_marker("perf_sweep") is not None:
        from pytest_llmperf.plugin.sweeps import parametrize

        parametrize(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Before tests are selected, add the marker ``perf`` and keywords for a cell's settings."""
    imply_perf(item)
    if item.config.getoption("llmperf_against") is not None:
        remember_collected(item)
    if uses_engine(item):
        item.config.stash.setdefault(_ENGINE_TESTS, []).append(item)
    if item.get_closest_marker("perf_sweep") is not None:
        from pytest_llmperf.plugin.sweeps import add_keywords

        add_keywords(item)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Refuse a commit that does not exist, before test modules are imported."""
    config = session.config
    named = config.getoption("llmperf_against") is not None or (
        config.getoption("llmperf_baselines_from") is not None
    )
    recording = config.pluginmanager.get_plugin(RECORDING)
    worker = hasattr(config, "workerinput")
    if named and recording is None and not worker and _named(config):
        from pytest_llmperf.plugin.session_context import check_revisions

        check_revisions(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect perf tests that were not requested; set up a session for the others."""
    recording = config.pluginmanager.get_plugin(RECORDING)
    if recording is not None:
        recording.select_wanted(items)
        return
    requested_markers = _named(config)
    if requested_markers and (engine_tests := config.stash.get(_ENGINE_TESTS, [])):
        from pytest_llmperf.plugin.misspelled_markers import refuse_misspelled_markers

        refuse_misspelled_markers(config, engine_tests)
    perf = [item for item in items if is_perf(item)]
    left_out = [item for item in perf if not is_requested(item, requested_markers)]
    if left_out:
        perf = [item for item in perf if is_requested(item, requested_markers)]
        gone = {*left_out}
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=left_out)
        config.stash[_LEFT_OUT_COUNT] = len(left_out)
    if perf:
        config.stash[_LOOKALIKE_COUNT] = sum(
            is_requested(item, requested_markers) for item in items
        ) - len(perf)
    on_gpu = [item for item in items if asks_for_gpu(item)]
    if not perf and not on_gpu:
        return
    from pytest_llmperf.plugin.gpu_requirement import guard_gpu, read_requirements
    from pytest_llmperf.plugin.xdist_mode import (
        RefusedOnWorker,
        is_xdist_worker,
        report_to_controller,
    )

    if perf:
        report_to_controller(config)
    try:
        requirements = read_requirements(on_gpu)
        if perf:
            from pytest_llmperf.plugin.session import begin_perf_session

            begin_perf_session(config, perf)
        guard_gpu(config, requirements, perf)
    except pytest.UsageError as error:
        if not is_xdist_worker(config):
            raise
        config.pluginmanager.register(RefusedOnWorker(str(error)), "llmperf-refused")


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Refuse perf tests, as several workers can't measure: now, or when a worker collects one.

    Runs before pytest-xdist's own hook, which reports that it has created its workers.
    """
    from pytest_llmperf.plugin.xdist_mode import XdistController

    config.pluginmanager.register(XdistController(config), "llmperf-xdist-controller")


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Report how many perf tests were left out, and which tests only look like perf tests."""
    lines = []
    if count := config.stash.get(_LEFT_OUT_COUNT, 0):
        plural = "s" if count != 1 else ""
        lines.append(f"llmperf: {count} perf test{plural} left out; run: pytest -m perf")
    if count := config.stash.get(_LOOKALIKE_COUNT, 0):
        tests = "1 test has" if count == 1 else f"{count} tests have"
        lines.append(
            f"llmperf: {tests} a marker of that name without using llm_engine; not measured"
        )
    return lines


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[object]) -> None:
    """Show errors of ``llm_engine`` at the test's line, without this package's frames."""
    if call.excinfo is not None:
        from pytest_llmperf.plugin.user_errors import show_at_test_line

        show_at_test_line(call, item.config)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Under pytest-xdist, free the device for the next worker's engine."""
    settings = current_settings(item.config)
    if settings is None:
        return
    from pytest_llmperf.plugin.xdist_mode import is_xdist_worker

    if is_xdist_worker(item.config):
        settings.engine.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the engine, however the session ended."""
    settings = current_settings(config)
    if settings is not None:
        settings.engine.close()


def _named(config: pytest.Config) -> frozenset[str]:
    """Return our markers by which this session's ``-m`` selects tests."""
    return named_markers(config.option.markexpr or "")
