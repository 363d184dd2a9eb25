"""The processes that an engine's process started, wherever they moved to, and their end.

A process that starts a session of its own leaves the process group of its parent, and one
whose parent ends gets another: the nearest ancestor that asked for orphans. An engine's
process asks for them, so that all it ever started stays below it while it lives; a variable in
their environment finds them when it is gone. Both are Linux's (proc(5), PR_SET_CHILD_SUBREAPER
in prctl(2)); elsewhere nothing is found, and the end of the process group has to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_llmperf.engine.own_time import OWN_TIME

#: Names the engine's process that started whoever has it in its environment.
MARK = "PYTEST_LLMPERF_ENGINE"
_PR_SET_CHILD_SUBREAPER = 36
#: More than a line of /proc/PID/stat has.
_STAT_BYTES = 4096
#: How often processes are looked for, since one may just be starting another, and how long apart.
_ROUNDS, _PAUSE_S = 20, 0.01


class _Process(NamedTuple):
    pid: int
    started: str  # with the pid it names one life
    parent: int
    group: int
    is_over: bool


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Descendants:
    """What a process started.

    Args:
        pid: of the process.
        mark: the value of MARK in its environment; empty where it has none.
    """

    def __init__(self, pid: int, mark: str = "") -> None:
        self._pid = pid
        self._mark = f"{MARK}={mark}".encode() if mark else b""
        self._known: set[_Process] = set()

    def look(self) -> None:
        """Note what is below the process, which must not have been waited for yet.

        Once it has ended nobody can tell, and its id may be another's.
        """
        self._known.update(_below({self._pid}, list(_processes())))

    def end(self) -> None:
        """End those that were noted, those with the mark, and what they started meanwhile."""
        for _ in range(_ROUNDS):
            left = self._left()
            for process in left:
                _kill(process)
            if not left:
                return
            OWN_TIME.sleep(_PAUSE_S)

    def _left(self) -> list[_Process]:
        now = list(_processes())
        lives = {(process.pid, process.started) for process in self._known}
        own = [one for one in now if (one.pid, one.started) in lives or self._is_marked(one)]
        found = {*own, *_below({process.pid for process in own}, now)}
        self._known |= found
        return [one for one in found if not one.is_over and one.pid not in (self._pid, os.getpid())]

    def _is_marked(self, process: _Process) -> bool:
        if not self._mark or process.is_over:
            return False
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:  # noqa: PTH123
                return self._mark in file.read().split(b"\0")
        except OSError:  # it ended, or is another user's
            return False


def end_those_outside_group(pid: int) -> None:
    """End what this process started and what left its process group.

    The group has an end of its own. Does nothing in a forked copy of process ``pid``.
    """
    if os.getpid() != pid:
        return
    for process in _below({pid}, list(_processes())):
        if process.group != pid:
            _kill(process)


def _kill(process: _Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, signal.SIGKILL)


def _processes() -> Iterator[_Process]:
    """Yield every process that can be seen from here; source: proc_pid_stat(5)."""
    if not sys.platform.startswith("linux"):
        return
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdigit():
            continue
        try:
            # Unbuffered: one read gets the whole line, and a buffer doubles the cost.
            with open(f"/proc/{entry}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                text = file.read(_STAT_BYTES).decode("ascii", "replace")
        except OSError:  # it ended meanwhile
            continue
        # The name is in parentheses and may itself hold any character.
        state, parent, group, *fields = text[text.rfind(")") + 2 :].split()
        yield _Process(int(entry), fields[16], int(parent), int(group), state in "ZX")


def _below(roots: Iterable[int], processes: list[_Process]) -> list[_Process]:
    """Return the children of ``roots``, their children, and so on."""
    found: dict[int, _Process] = {}
    parents = set(roots)
    while parents:
        children = [one for one in processes if one.parent in parents and one.pid not in found]
        found.update((child.pid, child) for child in children)
        parents = {child.pid for child in children}
    return list(found.values())
