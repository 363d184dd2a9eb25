"""Fixtures of this repository's own tests; the plugin itself loads through its entry point."""

import compileall
import signal
import subprocess
import sys
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
