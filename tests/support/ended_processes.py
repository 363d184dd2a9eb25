"""Waiting for the end of processes that a test does not start itself."""

from __future__ import annotations

import time

import psutil


def wait_until_ended(process: int | psutil.Process, seconds: float = 30.0) -> bool:
    """Wait until a process, given by itself or by its id, has ended; return False if it won't."""
    deadline = time.monotonic() + seconds
    try:
        if isinstance(process, int):
            process = psutil.Process(process)
        while time.monotonic() < deadline:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return True
    return False
