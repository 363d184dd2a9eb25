"""Lock files in a folder that all users of a machine can write to, safe from each other.

Another user may hold a lock for ever or remove its file. Nobody can make a session follow a link,
or write to anything but its lock file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# TMPDIR is ignored: sessions with different values of it would hold the same device at once.
_TEMPORARY = Path(tempfile.gettempdir() if sys.platform == "win32" else "/tmp")
_USER = "user" if sys.platform == "win32" else str(os.geteuid())
#: The folder that all users share, and this user's own for when the shared one can't be used.
SHARED, OWN = _TEMPORARY / "pytest-llmperf", _TEMPORARY / f"pytest-llmperf-{_USER}"
#: Mode of the shared folder, as /tmp's: anybody may create a file, only its owner may remove it.
_FOR_ALL = 0o1777
#: For retries: another user may have created the file but not yet opened it to all.
_TRIES, _PAUSE_S = 10, 0.02


@dataclass(frozen=True)
class LockFolder:
    """A folder of lock files.

    Attributes:
        path: where it is.
        kind: ``shared`` by all users, this user's ``own``, or ``named`` by the user.
    """

    path: Path
    kind: Literal["shared", "own", "named"]

    def make(self) -> None:
        """Create the folder if it does not exist."""
        self.path.mkdir(0o700, parents=self.kind == "named", exist_ok=True)


def holder_of(pids: list[int]) -> str:
    """Describe the first of these processes that is alive, with its user if that is another."""
    import psutil

    for pid in pids:
        with contextlib.suppress(psutil.Error, ValueError, OverflowError):
            user = psutil.Process(pid).username()
            return f"process {pid}" + ("" if user == psutil.Process().username() else f" of {user}")
    return "unknown"


if sys.platform == "win32":
    from filelock import FileLock, Timeout

    class LockFile:
        """A lock file in a folder, which is never shared."""

        def __init__(self, folder: LockFolder, name: str, *, exclusive: bool = True) -> None:
            del exclusive  # all locks are exclusive here
            folder.make()
            self.path = folder.path / name
            self._lock = FileLock(self.path, thread_local=False)

        def take(self) -> bool:
            """Lock the file if it is free; return whether it is now locked."""
            with contextlib.suppress(Timeout):
                self._lock.acquire(timeout=0)
            return self._lock.is_locked

        def holder(self) -> str:
            """Return a description of the holder."""
            return "unknown"  # Windows can't read a locked file

        def close(self) -> None:
            """Release the lock."""
            self._lock.release()

else:
    import fcntl

    class LockFile:
        """A lock file in a folder: opened at once, locked later, with its holder's id in it.

        Args:
            folder: its folder, made if necessary.
            name: the file's name.
            exclusive: whether the lock is exclusive; otherwise others may share it.

        Raises:
            OSError: folder or file can't be made, or can't be trusted.
        """

        def __init__(self, folder: LockFolder, name: str, *, exclusive: bool = True) -> None:
            self.path = folder.path / name
            self._folder = folder
            self._name = name
            self._exclusive = exclusive
            self._taken = False
            self._file = self._open()

        def take(self) -> bool:
            """Lock the file if it is free; return whether it is now locked."""
            operation = fcntl.LOCK_EX if self._exclusive else fcntl.LOCK_SH
            try:
                fcntl.flock(self._file, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if not os.fstat(self._file).st_nlink:
                # It was removed during the wait (such as by a clean-up of old files).
                os.close(self._file)
                self._file = self._open()
                return self.take()
            self._taken = True
            if self._exclusive:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
            return True

        def holder(self) -> str:
            """Return a description of the holder."""
            pids = _pids(self._file)
            if self._folder.kind != "named":
                # Holders of a shared lock are named in the exclusive files.
                with contextlib.suppress(OSError), _opened(self._folder) as folder:
                    for path in sorted(self._folder.path.glob("*.lock")):
                        with contextlib.suppress(OSError):
                            file = _existing(path.name, folder)
                            pids += _pids(file)
                            os.close(file)
            return holder_of(pids)

        def close(self) -> None:
            """Release the lock."""
            if self._taken and self._exclusive:
                os.ftruncate(self._file, 0)
            os.close(self._file)

        def _open(self) -> int:
            for _ in range(_TRIES):
                with contextlib.suppress(FileNotFoundError, FileExistsError, PermissionError):
                    return self._open_once()
                time.sleep(_PAUSE_S)
            return self._open_once()

        def _open_once(self) -> int:
            self._folder.make()
            with _opened(self._folder) as folder:
                # O_CREAT only for new files: for another user's file in such a folder, Linux
                # refuses it (fs.protected_regular).
                with contextlib.suppress(FileNotFoundError):
                    return _existing(self._name, folder)
                mode = 0o666 if self._folder.kind == "shared" else 0o600
                new = os.O_RDWR | os.O_CREAT | os.O_EXCL
                file = os.open(self._name, new, mode, dir_fd=folder)
                os.fchmod(file, mode)  # whatever the umask is
                return file

    @contextlib.contextmanager
    def _opened(folder: LockFolder) -> Iterator[int]:
        """Provide a folder's descriptor, so that files opened through it are in this folder."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        opened = os.open(folder.path, flags if folder.kind == "named" else flags | os.O_NOFOLLOW)
        try:
            status = os.fstat(opened)
            mine = status.st_uid == os.geteuid()
            if folder.kind == "shared" and mine:
                os.fchmod(opened, _FOR_ALL)
            elif folder.kind == "shared" and status.st_mode & _FOR_ALL != _FOR_ALL:
                raise PermissionError(f"{folder.path} is not open to all users (mode 1777)")
            elif folder.kind == "own" and (not mine or status.st_mode & 0o022):
                raise PermissionError(f"{folder.path} may be written to by other users")
            yield opened
        finally:
            os.close(opened)

    def _existing(name: str, folder: int) -> int:
        """Open an existing regular file without hard links."""
        # O_NONBLOCK, in case somebody made a pipe of that name.
        file = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        status = os.fstat(file)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return file
        os.close(file)
        if not status.st_nlink:
            raise FileNotFoundError(f"{name} was removed")
        raise OSError(f"{name} is not a plain file, or is a link to one")

    def _pids(file: int) -> list[int]:
        text = os.pread(file, 20, 0).split()
        return [int(text[0])] if text and text[0].isdigit() else []
