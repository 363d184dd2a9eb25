"""A command of ``llmperf`` that a test runs in its own process, and what it printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Output(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """The output with its line breaks as spaces."""
        return " ".join(self.out.split())


def run_command(capture: pytest.CaptureFixture[str], command: Callable[[], int]) -> Output:
    """Run a command, and return what it printed; also if argparse refuses its arguments."""
    try:
        status = command()
    except SystemExit as stop:
        status = int(stop.code or 0)
    return Output(status, *capture.readouterr())
