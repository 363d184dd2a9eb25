"""Stores the sessions of a search in a folder of the cache, so that it can continue later."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.baselines.json_text import explain_error, parse
from pytest_llmperf.bisect.session import BisectSession
from pytest_llmperf.repository.folders import remove_tree
from pytest_llmperf.stored_json import dump, read

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOLDER = "bisect"
#: Seconds after which a search that nobody continues is deleted.
KEPT_FOR = 90 * 24 * 3600.0
SCHEMA_VERSION = 1
_DIGITS = 16
_LOG = "bisect.log"
_RESTARTED = "restarted"
_SESSION = ".session.json"


class EvidenceError(Exception):
    """Raised if stored sessions can't be used or kept; ``str()`` is a complete message."""


class BisectEvidence:
    """The sessions of one search, one file each; locked by one process at a time.

    Also the context manager that holds the lock. ``key`` is everything that distinguishes this
    search from others.
    """

    def __init__(self, cache: Path, key: Iterable[object]) -> None:
        text = json.dumps([SCHEMA_VERSION, *key], default=str)
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        self.folder = cache / FOLDER / digest[:_DIGITS]
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> BisectEvidence:
        """Lock the sessions for this process.

        Raises:
            EvidenceError: another process holds the lock, or the folder can't be made.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"), thread_local=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            self._holder.write_text(f"process {os.getpid()}", encoding="utf-8")
        except Timeout:
            raise EvidenceError(
                f"the same search is running already ({self._held_by()}); wait for it to end, or "
                "end it: what it has measured is kept, and this command goes on from there"
            ) from None
        except (OSError, NotImplementedError) as error:
            lock.release()
            raise self._failed(error) from error
        self._lock = lock
        self._forget_old()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def restart(self) -> None:
        """Remove every session; from now on, sessions of other searches don't count either."""
        try:
            # Mark the restart first, so that it holds even if this is interrupted.
            (self.folder / _RESTARTED).touch()
            for path in self.folder.iterdir():
                if path.is_file() and path.name != _RESTARTED:
                    path.unlink()
        except OSError as error:
            raise self._failed(error) from error

    @property
    def restarted(self) -> bool:
        """Whether the search was restarted, so that no earlier measurement may count."""
        return (self.folder / _RESTARTED).exists()

    def _forget_old(self) -> None:
        """Remove searches that were not continued for ``KEPT_FOR`` seconds."""
        from filelock import FileLock, Timeout

        for folder in self.folder.parent.iterdir():
            with suppress(OSError, Timeout):
                if folder == self.folder or not folder.is_dir():
                    continue
                if time.time() - folder.stat().st_mtime < KEPT_FOR:
                    continue
                with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0):
                    remove_tree(folder)

    def drop(self, session: BisectSession) -> None:
        """Forget one session."""
        try:
            self._path(session.commit, session.against, session.fresh).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def sessions(self) -> list[BisectSession]:
        """Return the stored sessions; files that can't be used are left out."""
        return [kept for kept in self._read().values() if isinstance(kept, BisectSession)]

    def problems(self) -> list[str]:
        """Return a message for each stored file that can't be used."""
        return [
            f"{path}: not a usable session ({kept}); if the search needs its commit, it is "
            "measured again and the file is replaced"
            for path, kept in self._read().items()
            if isinstance(kept, str)
        ]

    def _read(self) -> dict[Path, BisectSession | str]:
        """Read every stored file: its session, or the reason why it can't be used."""
        by_path: dict[Path, BisectSession | str] = {}
        for path in sorted(self.folder.glob(f"*{_SESSION}")):
            try:
                session = read(BisectSession, parse(path.read_bytes()))
            except ValueError as error:
                by_path[path] = explain_error(error)
            except OSError as error:
                by_path[path] = (error.strerror or str(error)).lower()
            else:
                expected = self._path(session.commit, session.against, session.fresh)
                by_path[path] = session if path == expected else "it is about another commit"
        return by_path

    def find(self, commit: str, against: str, fresh: bool = False) -> BisectSession | None:
        """Return a commit's stored session; None if there is none."""
        wanted = (commit, against, fresh)
        kept = self.sessions()
        return next((s for s in kept if (s.commit, s.against, s.fresh) == wanted), None)

    def keep(self, session: BisectSession) -> None:
        """Store a session atomically; raises EvidenceError."""
        text = json.dumps(dump(session), indent=1) + "\n"
        self._write(self._path(session.commit, session.against, session.fresh), text)

    def keep_log(self, log: str) -> None:
        """Store the input of ``git bisect replay``, so that a user can continue by hand."""
        self._write(self.folder / _LOG, log)

    def stem(self, commit: str, against: str, fresh: bool = False) -> Path:
        """Return the path of a session's files, without the suffix."""
        again = "-again" if fresh else ""
        return self.folder / f"{commit[:_DIGITS]}-against-{against[:_DIGITS]}{again}"

    def _path(self, commit: str, against: str, fresh: bool) -> Path:
        stem = self.stem(commit, against, fresh)
        return stem.with_name(f"{stem.name}{_SESSION}")

    @property
    def _holder(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.holder")

    def _held_by(self) -> str:
        with suppress(OSError):
            return self._holder.read_text(encoding="utf-8").strip() or "another process"
        return "another process"

    def _write(self, path: Path, text: str) -> None:
        try:
            atomic_write(path, text)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> EvidenceError:
        reason = getattr(error, "strerror", None) or str(error)
        return EvidenceError(
            f"measurements can't be stored in {self.folder}: {reason}; free some space there, or "
            "set LLMPERF_CACHE_DIR to a folder on a local disk that can be written to"
        )
