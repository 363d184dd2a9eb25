"""Runs a function before SIGTERM takes its usual effect."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_sigterm(clean_up: Callable[[], None]) -> Iterator[None]:
    """Call ``clean_up`` if SIGTERM arrives within the block, before its usual effect.

    Does nothing where signals can't be handled (outside of the main thread), and where SIGTERM
    is ignored or has a handler that is not Python code.
    """
    before = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before is None or before is signal.SIG_IGN:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        clean_up()
        signal.signal(number, before)
        if callable(before):
            before(number, frame)
        else:
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        # A handler that other code has set meanwhile stays.
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, before)
