"""Clock and sleep of an engine's process, kept where an application can't replace them."""

from __future__ import annotations

import time
from collections.abc import Callable


class OwnTime:
    """Functions of ``time`` as they were before any application was imported.

    Kept in an object: a library that replaces the clock for tests (freezegun) does so in the
    ``time`` module and in the globals of every module that names it.
    """

    def __init__(self) -> None:
        #: Seconds, monotonic.
        self.now: Callable[[], float] = time.perf_counter
        self.sleep: Callable[[float], None] = time.sleep


OWN_TIME = OwnTime()
