"""Only one engine holds the device at a time, across every session of this user."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from filelock import BaseFileLock

_POLL_S = 0.2
_NOTICE_AFTER_S = 1.0


class DeviceBusyError(EngineError):
    """Another session held the device for longer than this one was willing to wait."""


class DeviceLock:
    """A lock file that names its holder; the system frees it when the holder dies.

    Args:
        timeout: seconds to wait for another session.
        notify: called once, with one line, when there is something to wait for.
        path: the lock file; the default is one per user, or ``LLMPERF_DEVICE_LOCK``.
    """

    def __init__(
        self,
        timeout: float = 1800.0,
        notify: Callable[[str], None] | None = None,
        path: Path | None = None,
    ) -> None:
        self._timeout = timeout
        self._notify = notify
        self._path = path or default_path()
        self._lock: BaseFileLock | None = None

    def acquire(self) -> None:
        """Wait for the device and hold it; does nothing if it is held already.

        Raises:
            DeviceBusyError: the wait was too long, or the lock file can't be made.
        """
        if self._lock is not None:
            return
        from filelock import FileLock, Timeout

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not bound to a thread: the one that ends the engine need not have started it.
            lock = FileLock(self._path, thread_local=False)
            started, told = time.monotonic(), False
            while True:
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=_POLL_S)
                    break
                waited = time.monotonic() - started
                if not told and waited > _NOTICE_AFTER_S and self._notify is not None:
                    self._notify(
                        f"waiting for another session ({self._holder()}) to free the device"
                    )
                    told = True
                if waited > self._timeout:
                    raise DeviceBusyError(
                        f"another session ({self._holder()}) has held the device for "
                        f"{format_duration(waited)}; wait for it to end, or end it"
                    )
            self._holder_path.write_text(f"process {os.getpid()}")
        except OSError as error:
            raise DeviceBusyError(
                f"the device's lock file {self._path} can't be used: {error}; "
                "set LLMPERF_DEVICE_LOCK to a path that can be written"
            ) from error
        self._lock = lock

    @property
    def held(self) -> bool:
        """Whether this session holds the device."""
        return self._lock is not None

    def release(self) -> None:
        """Free the device; does nothing if it is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _holder_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.holder")

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            return self._holder_path.read_text().strip() or "unknown"
        return "unknown"


def default_path() -> Path:
    """Return the lock file of this user on this machine."""
    if path := os.environ.get("LLMPERF_DEVICE_LOCK"):
        return Path(path)
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    # Not where TMPDIR says: sessions with different ones would hold the device at once.
    folder = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())
    return folder / f"pytest-llmperf-{user}" / "device.lock"
