"""Child processes that lead a group of their own: awaited without reaping, ended with the group.

The system keeps a child's process id for it until its parent has waited for it. From then on
the id may belong to a stranger, and so may the group of that number. So whether a leader has
ended is looked up without reaping it, its group is signalled first, and it is reaped last.

A leader is started with ``start_new_session=True``. Windows has no such groups: there only the
process itself is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

#: Pauses between two looks at a process that is waited for with a limit, seconds.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.05


def has_ended(process: subprocess.Popen[Any]) -> bool:
    """Whether the process has ended; it is not reaped, so its id stays its own."""
    if process.returncode is not None:
        return True
    if os.name != "posix":
        return process.poll() is not None
    if not hasattr(os, "waitid"):
        return _is_zombie(process.pid)
    try:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # Reaped by other means: SIGCHLD is ignored, or somebody waits for any child.
        return True
    return found is not None


def wait_until_ended(process: subprocess.Popen[Any], timeout: float | None = None) -> bool:
    """Wait for the end of the process without reaping it; False if that takes too long.

    Args:
        process: the leader of a group.
        timeout: seconds; None waits for as long as it takes.
    """
    if timeout is None and process.returncode is None and hasattr(os, "waitid"):
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return True
    until = None if timeout is None else time.monotonic() + timeout
    pause = _SHORTEST_PAUSE_S
    while not has_ended(process):
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return True


def signal_process(process: subprocess.Popen[Any], number: int) -> None:
    """Send a signal to the process alone, unless it has been reaped."""
    if os.name != "posix":
        process.send_signal(number)
    elif _is_ours(process):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def signal_group(process: subprocess.Popen[Any], number: int) -> None:
    """Send a signal to all of the group that the process leads, unless it has been reaped.

    A leader that has ended and is not reaped still stands for the others.
    """
    if os.name != "posix":
        process.terminate()
    elif _is_ours(process):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def end_group(process: subprocess.Popen[Any]) -> int:
    """End the process and its group at once, reap it, and return its status.

    Of one that has been reaped, only the status is returned: its group is out of reach.
    """
    if os.name == "posix":
        signal_group(process, signal.SIGKILL)
    else:
        process.kill()
    return process.wait()


def _is_ours(process: subprocess.Popen[Any]) -> bool:
    """Whether the process is a child that nobody has waited for yet."""
    if process.returncode is not None:
        return False
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
    return True


def _is_zombie(pid: int) -> bool:
    """Whether a child has ended, where the system has no ``waitid`` (macOS before Python 3.13)."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
