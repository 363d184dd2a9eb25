"""pytest's way in: options, markers, the fixture, and perf tests kept out of plain runs.

Nothing heavy is imported here; a session without perf tests pays for this
file and its three neighbours only.
"""

from __future__ import annotations

from pathlib import Path

import pytest

# Takes the clock before a library for tests (freezegun) can replace it.
import pytest_llmperf.engine.own_time  # noqa: F401
from pytest_llmperf.plugin.fixtures import llm_engine
from pytest_llmperf.plugin.markers import (
    MARKERS,
    PLAIN_MARKERS,
    asks_for_gpu,
    asks_for_perf,
    imply_perf,
    is_perf,
)
from pytest_llmperf.plugin.options import add_options
from pytest_llmperf.plugin.settings import current_settings

__all__ = ["llm_engine"]

#: The name of the plugin that records for a session in another tree.
RECORDING = "llmperf-recording-session"
_DESELECTED = pytest.StashKey[int]()


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Make a metric marker imply ``perf``, before anything selects by marker."""
    imply_perf(item)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Refuse a commit that does not exist before anything is imported."""
    config = session.config
    named = config.getoption("llmperf_against") is not None or (
        config.getoption("llmperf_baselines_from") is not None
    )
    recording = config.pluginmanager.get_plugin(RECORDING)
    worker = hasattr(config, "workerinput")
    if named and recording is None and not worker and asks_for_perf(config.option.markexpr or ""):
        from pytest_llmperf.plugin.session_base import check_revisions

        check_revisions(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep perf tests out of runs that do not ask for them; set up what the others need."""
    recording = config.pluginmanager.get_plugin(RECORDING)
    if recording is not None:
        recording.take(items)
        return
    perf = [item for item in items if is_perf(item)]
    if perf and not asks_for_perf(config.getoption("markexpr") or ""):
        items[:] = [item for item in items if not is_perf(item)]
        config.hook.pytest_deselected(items=perf)
        config.stash[_DESELECTED] = len(perf)
        perf = []
    on_gpu = [item for item in items if asks_for_gpu(item)]
    if not perf and not on_gpu:
        return
    from pytest_llmperf.plugin.gpu_requirement import guard_gpu, read_requirements
    from pytest_llmperf.plugin.xdist_mode import RefusedOnWorker, is_xdist_worker

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Be ready to say that nothing is measured while several workers run."""
    from pytest_llmperf.plugin.xdist_mode import XdistNotice, refuse_to_store

    if asks_for_perf(config.getoption("markexpr") or ""):
        refuse_to_store(config)
    config.pluginmanager.register(XdistNotice(), "llmperf-xdist-notice")


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say how many perf tests were left out, and how to run them."""
    count = config.stash.get(_DESELECTED, 0)
    if not count:
        return []
    return [f"llmperf: {count} perf test{'s' if count != 1 else ''} left out; run: pytest -m perf"]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Under pytest-xdist, let the next worker's engine have the device."""
    settings = current_settings(item.config)
    if settings is None:
        return
    from pytest_llmperf.plugin.xdist_mode import is_xdist_worker

    if is_xdist_worker(item.config):
        settings.engine.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no engine behind, however the session ended."""
    settings = current_settings(config)
    if settings is not None:
        settings.engine.close()
