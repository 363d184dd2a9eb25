"""Fixtures of this repository's own tests; the plugin itself loads through its entry point."""

import compileall
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from longest_first import longest_first

pytest_plugins = ["pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs, and some CI runners start everything, with Ctrl-C ignored; our
    # tests of Ctrl-C, and the sessions they start, must receive it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the plugin once, and let Hypothesis take its time.

    Under PYTHONDONTWRITEBYTECODE every process would compile it again.
    """
    if not hasattr(config, "workerinput"):
        root = Path(__file__).parent
        # First as engines import it, then as pytest sessions do.
        compileall.compile_dir(root / "pytest_llmperf", quiet=2)
        if sys.dont_write_bytecode and config.getoption("numprocesses", None):
            subprocess.run([sys.executable, str(root / "tools" / "compile_plugin.py")], check=False)
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        # On a busy machine, the time that an example takes says nothing about the code.
        settings.register_profile("no deadline", deadline=None)
        settings.load_profile("no deadline")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with the longest files if several processes share the tests."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        items[:] = longest_first(items, worker["workercount"])


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other process on the machine void samples of sessions run inside this process.

    For tests that count processes; sessions on a busy machine are tested elsewhere.
    """
    monkeypatch.setattr("pytest_llmperf.session.machine_watch.judge", lambda *_: [])
    monkeypatch.setattr("pytest_llmperf.session.machine_watch.judge_host", lambda *_: [])


@pytest.fixture
def exact_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pairs in turns have no more replays than planned, however short they are."""
    for name in ("_MIN_SECONDS", "_MAX_WANTED_SECONDS"):
        monkeypatch.setattr(f"pytest_llmperf.measure.turns.{name}", 0.0)


@pytest.fixture
def restored_metrics() -> Iterator[None]:
    """Remove the metrics that a test, or a session inside this process, registered."""
    from pytest_llmperf.metrics import METRICS

    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)
