"""Folders that belong to one run: locked while it is alive, removed afterwards."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.repository.command import GitError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NAME = re.compile(r"(?P<name>\d+-[0-9a-f]{8})(?:\.lock)?")
_SWEEPING = ".sweep.lock"
#: A git that outlives its killed session may still write for a moment.
_TRIES, _PAUSE_SECONDS = 5, 0.2
#: Attempts: other runs may remove a folder that is not locked yet.
_CLAIMS = 50


class OwnFolder:
    """A new folder of this run below ``parent``; ``sweep`` removes it once the run has ended.

    Attributes:
        path: the folder; it exists and is empty at first.

    Raises:
        GitError: it can't be created or locked.
    """

    def __init__(self, parent: Path) -> None:
        try:
            self.path, self._lock = _claim(parent)
        except (OSError, NotImplementedError) as error:
            raise cannot_write(parent, error) from error
        try:
            self.path.mkdir()
        except OSError as error:
            self.remove()
            raise cannot_write(self.path, error) from error

    def remove(self) -> None:
        """Remove the folder with everything in it and free its lock; do nothing the second time.

        Leftovers are removed by the next run's ``sweep``.
        """
        if self._lock.is_locked:
            gone = remove_tree(self.path)
            _free(self.path, self._lock, gone)
            _remove_if_empty(self.path.parent)


def sweep(top: Path) -> None:
    """Remove the folders whose runs have ended.

    They lie one level below ``top``, in their runs' ``parent``.
    """
    folders: set[Path] = set()
    with suppress(OSError):
        for path in top.glob("*/*"):
            if match := _NAME.fullmatch(path.name):
                folders.add(path.with_name(match["name"]))
    if not folders:
        return
    from filelock import FileLock, Timeout

    # One sweep at a time: two could each remove a lock file that the other has just made. This
    # file stays: a lock whose file is removed can be held twice.
    with suppress(Timeout, OSError, NotImplementedError), FileLock(top / _SWEEPING, timeout=0):
        for folder in sorted(folders):
            lock = FileLock(_lock_file(folder))
            with suppress(Timeout):
                lock.acquire(timeout=0)
                _free(folder, lock, remove_tree(folder))
                _remove_if_empty(folder.parent)


def cannot_write(path: Path, error: BaseException | str) -> GitError:
    """Return the error for a cache that can't be written to."""
    reason = getattr(error, "strerror", None) or str(error)
    return GitError(
        f"can't make a checkout in {path}: {reason}; free space there, or set LLMPERF_CACHE_DIR "
        "to a folder on a local disk that can be written to"
    )


def remove_tree(folder: Path) -> bool:
    """Remove a folder, including read-only ones inside it; return whether it is gone."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
            _make_removable(folder)
        if folder.is_symlink() or folder.is_file():
            with suppress(OSError):
                folder.unlink()
        else:
            shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return True
    return False


def _make_removable(top: Path) -> None:
    """Make all folders writable for their owner, and on Windows the files, too.

    Elsewhere a file's mode does not prevent its removal, and the file may have another
    name outside (a hard link), whose mode is not ours to change.
    """
    _allow(top)
    for folder, folders, files in os.walk(top):
        for name in folders:
            _allow(Path(folder) / name)
        if os.name == "nt":
            for name in files:
                _allow(Path(folder) / name)


def _allow(path: Path) -> None:
    with suppress(OSError):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IRWXU)


def _claim(parent: Path) -> tuple[Path, BaseFileLock]:
    from filelock import FileLock, Timeout

    for _ in range(_CLAIMS):
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f"{os.getpid()}-{secrets.token_hex(4)}"
        # Not bound to a thread: another one may close it.
        lock = FileLock(_lock_file(folder), thread_local=False)
        # A sweep may have locked and removed the file before it was locked here, and the
        # parent with its last folder.
        with suppress(Timeout, FileNotFoundError):
            lock.acquire(timeout=0)
            if _lock_file(folder).exists():
                return folder, lock
            lock.release()
    raise FileNotFoundError(errno.ENOENT, "it is removed again and again", str(parent))


def _free(folder: Path, lock: BaseFileLock, gone: bool) -> None:
    """Free the lock; remove its file if the folder is gone."""
    file = _lock_file(folder)
    if gone:
        with suppress(OSError):  # Windows removes no file that is open
            file.unlink()
    lock.release()
    if gone:
        with suppress(OSError):
            file.unlink()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
