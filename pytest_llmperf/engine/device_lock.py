"""Device locks: a session that would disturb another's measurement waits for it to end.

A session whose engines compute only on known cards locks those, and shares the machine with
other such sessions. Any other session may use the processor or an unknown card, and locks
the whole machine. Locks are always taken in the same order, so that two sessions never
wait for each other.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from pytest_llmperf.engine import lock_files
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.lock_files import LockFile, LockFolder
from pytest_llmperf.units import format_duration

_POLL_S = 0.2
_NOTICE_AFTER_S = 1.0
_MACHINE = "machine.lock"
_locks: weakref.WeakSet[DeviceLock] = weakref.WeakSet()


class DeviceBusyError(EngineError):
    """Another session held the device for longer than this one was willing to wait."""


def no_known_cards() -> None:
    """Return None, as no cards are known, so that the whole machine is locked."""


class DeviceLock:
    """Locks of a session's cards, or of its machine; the system frees them when the holder dies.

    Args:
        timeout: seconds to wait for other sessions.
        notify: called with a line: once when it has to wait, and when it can't wait for sessions
            of other users.
        path: one lock file that stands for everything; the default is ``LLMPERF_DEVICE_LOCK``,
            or else files that all users of this machine share.
        cards: called when the lock is acquired; returns the names of all cards that the
            session's engines compute on, or None if they are not known.
    """

    def __init__(
        self,
        timeout: float = 1800.0,
        notify: Callable[[str], None] | None = None,
        path: Path | None = None,
        cards: Callable[[], Collection[str] | None] = no_known_cards,
    ) -> None:
        self._timeout = timeout
        self._notify = notify or (lambda _: None)
        named = os.environ.get("LLMPERF_DEVICE_LOCK")
        self._path = path or (Path(named) if named else None)
        self._cards = cards
        self._held: list[LockFile] = []
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Wait for the device and hold it; does nothing if it is held already.

        Raises:
            DeviceBusyError: the wait was too long, this thread holds the device with another lock
                and would wait for itself, or a lock file can't be made.
        """
        if self._held:
            return
        began, files = time.monotonic(), self._open()
        notified = False
        try:
            for file in files:
                while not file.take():
                    self._check_not_own(file)
                    waited = time.monotonic() - began
                    if not notified and waited > _NOTICE_AFTER_S:
                        self._notify(
                            f"waiting for another session ({file.holder()}) to free the device"
                        )
                        notified = True
                    if waited > self._timeout:
                        raise DeviceBusyError(
                            f"another session ({file.holder()}) has held the device for "
                            f"{format_duration(waited)}; wait for it to end, or end it"
                        )
                    time.sleep(_POLL_S)
        except OSError as error:
            _close(files)
            raise _unusable(files[0].path, error) from error
        except BaseException:
            _close(files)
            raise
        self._held, self._thread = files, threading.current_thread()
        _locks.add(self)

    @property
    def held(self) -> bool:
        """Whether this session holds the device."""
        return bool(self._held)

    def release(self) -> None:
        """Free the device; does nothing if it is not held."""
        held, self._held = self._held, []
        _close(held)

    @staticmethod
    def _check_not_own(file: LockFile) -> None:
        """Refuse to wait for a lock that this thread holds itself."""
        mine = [lock for lock in _locks if lock._thread is threading.current_thread()]
        if any(held.path == file.path for lock in mine for held in lock._held):
            raise DeviceBusyError(
                "another engine of this process still holds the device, and waiting for it would "
                "never end; close that engine first: engine.close()"
            )

    def _open(self) -> list[LockFile]:
        """Open the files to lock, in the order to lock them in."""
        if self._path is not None:
            folder = LockFolder(self._path.parent, "named")
            return _open_all_or_raise(folder, [(self._path.name, True)])
        cards = sorted({re.sub(r"\W", "-", card) for card in self._cards() or ()})
        wanted = [(_MACHINE, not cards), *((f"gpu-{card}.lock", True) for card in cards)]
        try:
            return _open_all(LockFolder(lock_files.SHARED, "shared"), wanted)
        except OSError as error:
            self._notify(
                f"note: sessions of other users are not waited for: the lock files in "
                f"{lock_files.SHARED} can't be used ({error}); remove that folder, or have its "
                "owner or root do so"
            )
        return _open_all_or_raise(LockFolder(lock_files.OWN, "own"), wanted)


def _open_all_or_raise(folder: LockFolder, wanted: Sequence[tuple[str, bool]]) -> list[LockFile]:
    try:
        return _open_all(folder, wanted)
    except OSError as error:
        raise _unusable(folder.path / wanted[0][0], error) from error


def _open_all(folder: LockFolder, wanted: Sequence[tuple[str, bool]]) -> list[LockFile]:
    files: list[LockFile] = []
    try:
        for name, exclusive in wanted:
            files.append(LockFile(folder, name, exclusive=exclusive))
    except OSError:
        _close(files)
        raise
    return files


def _close(files: Sequence[LockFile]) -> None:
    for file in reversed(files):
        with contextlib.suppress(OSError):
            file.close()


def _unusable(path: Path, error: OSError) -> DeviceBusyError:
    return DeviceBusyError(
        f"the device's lock file {path} can't be used: {error}; "
        "set LLMPERF_DEVICE_LOCK to a path that can be written"
    )
