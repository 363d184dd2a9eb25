"""A process that ends, with all it started, when the one that started it is gone."""

from __future__ import annotations

import os
import signal
import threading
import time

_ORPHAN_POLL_S = 0.5


def die_with_parent() -> None:
    """End this process soon after the one that started it is gone, whatever the engine is doing.

    Reading stdin notices only between two requests. The kernel's own signal for
    this (PR_SET_PDEATHSIG) follows the parent's thread, not its process.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ORPHAN_POLL_S)
        end_group()

    if os.name == "posix":
        threading.Thread(target=watch, name="llmperf-orphan-watch", daemon=True).start()


def end_group() -> None:
    """End this process and what it started: nobody is left who could."""
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
