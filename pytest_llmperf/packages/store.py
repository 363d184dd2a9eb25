"""The cache of environments: each is complete or absent, built once, removed when unused."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.packages.venv import interpreter

#: Entries unused for this long are removed, seconds.
_UNUSED_S = 60 * 24 * 3600.0
_RUN_TIMEOUT_S = 60.0


class CacheEntry:
    """The cache entry of one environment, or of the finding that none is needed.

    An environment is built in its final place (programs in a venv contain its path),
    under a unique name; a stamp that names it makes it public. So a builder that
    outlives its killed session does no harm.

    ``store`` is the folder of all entries, ``digest`` the name of this one; ``say`` is called
    with a line if it has to wait for another session.
    """

    def __init__(self, store: Path, digest: str, say: Callable[[str], None]) -> None:
        self.log = store / f"{digest}.log"
        self._store = store
        self._digest = digest
        self._say = say
        self._stamp = store / f"{digest}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the entry's lock, to look for it or make it.

        Raises:
            OSError: the folder cannot be made or locked.
        """
        import filelock

        self._store.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self._store / f"{self._digest}.lock")
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                self._say("another session is building the same environment; waiting for it")
                lock.acquire()
        except NotImplementedError as error:
            raise OSError(str(error)) from None
        try:
            yield
        finally:
            lock.release()

    def read_stamp(self) -> dict[str, Any]:
        """Return the published stamp and mark it as used; {} if its environment does not work."""
        stamp = _read(self._stamp)
        if stamp.get("folder") and not _runs(interpreter(self._store / stamp["folder"])):
            return {}
        if stamp:
            os.utime(self._stamp)
        return stamp

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """Provide the name of a folder to work in; it is removed unless ``publish`` names it.

        Raises:
            OSError: the disk is full, or the like.
        """
        self._stamp.unlink(missing_ok=True)
        self._sweep()
        self.log.write_bytes(b"")
        folder = self._store / f"{self._digest}-{secrets.token_hex(4)}"
        try:
            yield folder
        finally:
            if _read(self._stamp).get("folder") != folder.name:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, stamp: dict[str, Any]) -> None:
        """Publish the complete entry.

        Raises:
            OSError: the disk is full, or the like.
        """
        atomic_write(self._stamp, json.dumps(stamp, indent=1))

    def donors(self, engine: str) -> list[Path]:
        """Return the folders of packages with an engine built like ``engine``, newest first."""
        stamps = [_read(path) for path in sorted(self._store.glob("*.json"), key=_age)]
        return [Path(stamp["packages"]) for stamp in stamps if stamp.get("engine") == engine]

    def _sweep(self) -> None:
        """Remove leftovers of killed builders, and entries unused for long."""
        import filelock

        for stamp in self._store.glob("*.json"):
            if _age(stamp) > _UNUSED_S:
                stamp.unlink(missing_ok=True)
                stamp.with_suffix(".log").unlink(missing_ok=True)
        named = {_read(stamp).get("folder") for stamp in self._store.glob("*.json")}
        for path in self._store.glob("*-*"):
            digest = path.name.partition("-")[0]
            if path.name in named:
                continue
            if digest == self._digest:  # its lock is ours
                shutil.rmtree(path, ignore_errors=True)
                continue
            with suppress(filelock.Timeout, OSError):  # it is being built
                with filelock.FileLock(self._store / f"{digest}.lock").acquire(timeout=0):
                    shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _read(stamp: Path) -> dict[str, Any]:
    try:
        data = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _runs(python: Path) -> bool:
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_RUN_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
