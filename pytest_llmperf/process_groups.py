"""Child processes that lead a process group: running, waiting without reaping, ending the group.

The system reserves a child's process id until its parent has waited for it. After that, the id
may belong to another process, and the group's number to another group. So a leader's end is
looked up without reaping it, its group is signalled first, and the leader is reaped last.

A leader is started with ``start_new_session=True``. Windows has no such groups: there only the
process itself is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds between two checks of a process while waiting with a limit.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.05


def has_ended(process: subprocess.Popen[Any]) -> bool:
    """Whether the process has ended; it is not reaped, so its id stays reserved."""
    if process.returncode is not None:
        return True
    if os.name != "posix":
        return process.poll() is not None
    if not hasattr(os, "waitid"):
        return _is_zombie(process.pid)
    try:
        status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # Reaped elsewhere: SIGCHLD is ignored, or other code waits for any child.
        return True
    return status is not None


def wait_until_ended(process: subprocess.Popen[Any], timeout: float | None = None) -> bool:
    """Wait for the end of the process without reaping it; False if that takes too long.

    Args:
        process: the leader of a group.
        timeout: seconds; None waits without a limit.
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

    A leader that has ended but is not reaped still keeps the group's id reserved.
    """
    if os.name != "posix":
        process.terminate()
    elif _is_ours(process):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def end_group(process: subprocess.Popen[Any]) -> int:
    """End the process and its group at once, reap it, and return its status.

    If it has been reaped, only the status is returned: its group's id is no longer reserved.
    """
    if os.name == "posix":
        signal_group(process, signal.SIGKILL)
    else:
        process.kill()
    return process.wait()


def run_to_log(
    command: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
    log: Path,
    end: Callable[[subprocess.Popen[Any]], object] = end_group,
) -> int:
    """Run a command with its output in a file, and return its status.

    It leads a group of its own, so Ctrl-C reaches this process only. Whatever ends this process
    ends the command, too: by ``end``, which also reaps it.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_ended(process)
            return process.wait()
        except BaseException:
            end(process)
            raise


def _is_ours(process: subprocess.Popen[Any]) -> bool:
    """Whether the process is a child that has not been reaped yet."""
    if process.returncode is not None:
        return False
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
    return True


def _is_zombie(pid: int) -> bool:
    """Whether a child has ended, on systems without ``waitid`` (macOS before Python 3.13)."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
