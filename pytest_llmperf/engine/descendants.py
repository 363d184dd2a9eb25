"""Finds and ends all processes that an engine's process started, wherever they moved to.

A process that calls setsid() leaves the process group of its parent, and one whose parent ends
is adopted by the nearest ancestor that asked for orphans. An engine's process asks for them, so
that everything it started stays below it while it lives; once it is gone, they are found by a
variable in their environment. Both work on Linux only (proc(5), PR_SET_CHILD_SUBREAPER in
prctl(2)); elsewhere nothing is found, and ending the process group has to be enough.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.kernel_files import process_stats

#: Environment variable that names the engine's process to which a process belongs.
MARK = "PYTEST_LLMPERF_ENGINE"
_PR_SET_CHILD_SUBREAPER = 36
#: How often to look for processes, since one may just be starting another, and the pause between.
_ROUNDS, _PAUSE_S = 20, 0.01


class _Process(NamedTuple):
    pid: int
    started: str  # identifies a process, together with the pid
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
    """The processes that a process started.

    Args:
        pid: of the process.
        mark: the value of MARK in its environment.
    """

    def __init__(self, pid: int, mark: str) -> None:
        self._pid = pid
        self._mark = f"{MARK}={mark}".encode()
        self._known: set[_Process] = set()

    def note(self) -> None:
        """Note the processes below this one, before it is waited for.

        Once it has been waited for, they can't be found, and its id may belong to another.
        """
        self._known.update(_below({self._pid}, list(_processes())))

    def end(self) -> None:
        """End the noted processes, those with the mark, and any they started meanwhile."""
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
        if process.is_over:
            return False
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:  # noqa: PTH123
                return self._mark in file.read().split(b"\0")
        except OSError:  # it ended, or is another user's
            return False


def end_those_outside_group(pid: int) -> None:
    """End the processes that this process started and that left its process group.

    The group itself is ended elsewhere. Does nothing in a forked copy of process ``pid``.
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
    """Yield every visible process."""
    for pid, _, fields in process_stats():
        state, parent, group = fields[:3]
        yield _Process(pid, fields[19], int(parent), int(group), state in "ZX")


def _below(roots: Iterable[int], processes: list[_Process]) -> list[_Process]:
    """Return the children of ``roots``, their children, and so on."""
    found: dict[int, _Process] = {}
    parents = set(roots)
    while parents:
        children = [one for one in processes if one.parent in parents and one.pid not in found]
        found.update((child.pid, child) for child in children)
        parents = {child.pid for child in children}
    return list(found.values())
