"""Fixtures of this repository's own tests; the plugin itself loads through its entry point."""

import compileall
import signal
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs, and some CI runners everything, deaf to Ctrl-C; our tests
    # of Ctrl-C, and the sessions they start, must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the plugin once; under PYTHONDONTWRITEBYTECODE each engine would do it again."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(__file__).parent / "pytest_llmperf", quiet=2)
