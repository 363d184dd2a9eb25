"""Runs pytest for a command, and passes signals on to it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from pytest_llmperf.process_groups import signal_process, wait_until_ended

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


def run_perf_tests(arguments: Sequence[str]) -> int:
    """Run the perf tests of the current folder; return pytest's exit status.

    SIGTERM is passed on to pytest; Ctrl-C reaches pytest through the terminal.
    """
    process: subprocess.Popen[bytes] | None = None
    asked_to_end = False

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_end
        asked_to_end = True
        if process is not None:
            signal_process(process, signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        command = [sys.executable, "-m", "pytest", "-m", "perf", "--llmperf-one-process"]
        process = subprocess.Popen([*command, *arguments])
        if asked_to_end:
            signal_process(process, signal.SIGTERM)
        _wait(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    # Reap pytest, which frees its process id, only now that no signal is passed on any more.
    status = process.wait()
    # If a signal ended it, return the status that a shell would.
    return status if status >= 0 else 128 - status


def _wait(process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            wait_until_ended(process)
            return
        except KeyboardInterrupt:
            # The terminal also interrupts pytest, which then reports and ends by itself.
            continue
