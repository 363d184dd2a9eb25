"""The cache of environments: each whole or not there, built once, removed when unused."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.packages.building import Say, Site, interpreter
from pytest_llmperf.packages.copying import Place

#: An environment that nobody asked for this long is removed, seconds.
_UNUSED_S = 60 * 24 * 3600.0
_RUN_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Built:
    """What a builder made.

    Attributes:
        place: its folders.
        note: one line for reports.
        engine: what an engine that was built for it was built with; empty if none was.
    """

    place: Place
    note: str
    engine: str


class Store:
    """The place of one environment in the cache.

    An environment is built where it stays (programs in a venv hold its path), under
    a name of its own; a stamp that names it makes it public. So a builder that
    outlives its killed session writes where nobody looks.

    Args:
        folder: of all environments.
        digest: names this one.
        say: gets a line if another builder has to be waited for.
    """

    def __init__(self, folder: Path, digest: str, say: Say) -> None:
        self.folder = folder
        self._digest = digest
        self._say = say
        self._stamp = folder / f"{digest}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that looks for or builds this environment.

        Raises:
            OSError: the folder cannot be made or locked.
        """
        import filelock

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / f"{self._digest}.lock")
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                self._say("another session is making the same environment; waiting for it")
                lock.acquire()
        except NotImplementedError as error:
            raise OSError(str(error)) from None
        try:
            yield
        finally:
            lock.release()

    def find(self) -> tuple[Path, str] | None:
        """Return the interpreter and the note of the environment, if it is whole and runs."""
        stamp = _read(self._stamp)
        if not stamp.get("folder"):
            return None
        python = interpreter(self.folder / str(stamp["folder"]))
        if not _runs(python):
            return None
        os.utime(self._stamp)
        return python, str(stamp.get("note", ""))

    def make(self, here: Path, tree: Path, builder: Callable[[Site], Built]) -> tuple[Path, str]:
        """Let ``builder`` make the environment; publish it, or leave nothing.

        Args:
            here: the project folder of this environment.
            tree: the one that the new environment is for.
            builder: makes it.

        Raises:
            OSError: the disk is full, or the like.
        """
        self._sweep()
        log = self.folder / f"{self._digest}.log"
        log.write_bytes(b"")
        folder = self.folder / f"{self._digest}-{secrets.token_hex(4)}"
        site = Site(folder, log, here, tree, self._say)
        try:
            built = builder(site)
            self._publish(
                {
                    "folder": site.folder.name,
                    "note": built.note,
                    "engine": built.engine,
                    "place": built.place.to_json(),
                }
            )
        except BaseException:
            shutil.rmtree(site.folder, ignore_errors=True)
            raise
        return site.python, built.note

    def donors(self, engine: str) -> list[Place]:
        """Return the environments for which an engine was built that way, newest first."""
        found = []
        for path in sorted(self.folder.glob("*.json"), key=_age):
            stamp = _read(path)
            place = Place.from_json(stamp.get("place"))
            if stamp.get("engine") == engine and place and place.purelib.is_dir():
                found.append(place)
        return found

    def _publish(self, stamp: dict[str, Any]) -> None:
        temporary = self.folder / f"{self._digest}-{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(stamp, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._stamp)
        finally:
            temporary.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what killed builders left behind, and what nobody has used for long."""
        self._stamp.unlink(missing_ok=True)
        for stamp in self.folder.glob("*.json"):
            if _age(stamp) > _UNUSED_S:
                stamp.unlink(missing_ok=True)
                stamp.with_suffix(".log").unlink(missing_ok=True)
        for path in list(self.folder.iterdir()):
            digest, dash, _ = path.name.partition("-")
            published = _read(self.folder / f"{digest}.json").get("folder")
            if dash and path.name != published:
                self._discard(path, digest)

    def _discard(self, path: Path, digest: str) -> None:
        """Remove a folder or file whose builder is gone."""
        import filelock

        if digest == self._digest:  # its lock is ours
            _delete(path)
            return
        try:
            with filelock.FileLock(self.folder / f"{digest}.lock").acquire(timeout=0):
                _delete(path)
        except (filelock.Timeout, NotImplementedError, OSError):  # it is being built
            return


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
