"""Ends this process, and everything it started, when its parent is gone."""

from __future__ import annotations

import os
import signal
import threading
from typing import NoReturn

from pytest_llmperf.engine.descendants import end_those_outside_group
from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.engine.process_end import PIPE_LOST

_ORPHAN_POLL_S = 0.5
#: The pipes of a process that ends are closed a moment before its children get another parent.
_LAST_MOMENT_S = 1.0
_PARENT = os.getppid()


def die_with_parent() -> None:
    """End this process soon after its parent is gone, even while the engine is busy.

    Reading stdin notices only between two requests. The kernel's own signal for
    this (PR_SET_PDEATHSIG) follows the parent's thread, not its process.
    """

    def watch() -> None:
        while not _is_orphan():
            OWN_TIME.sleep(_ORPHAN_POLL_S)
        end_group()

    if os.name == "posix":
        threading.Thread(target=watch, name="llmperf-orphan-watch", daemon=True).start()


def end_unreachable() -> NoReturn:
    """End this process after a pipe to its parent broke; a living parent reports why."""
    until = OWN_TIME.now() + _LAST_MOMENT_S
    while OWN_TIME.now() < until:
        if _is_orphan():
            end_group()
        OWN_TIME.sleep(0.02)
    os._exit(PIPE_LOST)


def end_group() -> NoReturn:
    """End this process and everything it started."""
    end_those_outside_group(os.getpid())
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _is_orphan() -> bool:
    return os.getppid() != _PARENT
