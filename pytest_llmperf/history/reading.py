"""Reads every record of a folder's history, from git, the work tree, and what is remembered."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pytest_llmperf.history.cache import WORTHWHILE
from pytest_llmperf.history.digest import Digester
from pytest_llmperf.history.sessions import Sessions
from pytest_llmperf.history.work_tree import regular_file
from pytest_llmperf.history.worker import RecordReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_llmperf.history.cache import SessionCache
    from pytest_llmperf.history.helper import Helper

#: Records that are read in one go: whoever is free takes the next ones, here or in the helper.
_TOGETHER = 64


class Reading:
    """Reads records while it is still being found out which there are.

    Args:
        top: of the repository's work tree.
        cache: what is remembered of earlier runs, or None.
        helper: is started, and takes its part, as soon as there is enough to read.
    """

    def __init__(self, top: Path, cache: SessionCache | None, helper: Helper) -> None:
        self._top, self._cache, self._helper = top, cache, helper
        self._known = cache.read() if cache is not None else Sessions()
        self._asked: dict[str, None] = dict.fromkeys(row.source for row in self._known.rows)
        self._asked |= dict.fromkeys(self._known.bad)
        self._wanted: dict[str, str] = {}
        self._waiting: deque[list[tuple[str, str]]] = deque()
        self._read: list[Sessions] = []
        self._feeding: threading.Thread | None = None

    def add(self, blobs: Mapping[str, str]) -> None:
        """Have records read, path -> blob, those that are neither remembered nor added already."""
        # In the order they come in: git unpacks neighbours faster than strangers.
        wanted = {blob: path for path, blob in blobs.items()}
        self._wanted |= wanted
        new = [(blob, path) for blob, path in wanted.items() if blob not in self._asked]
        self._asked |= dict.fromkeys(blob for blob, _ in new)
        self._waiting.extend(new[i : i + _TOGETHER] for i in range(0, len(new), _TOGETHER))
        self._helper.start(sum(map(len, self._waiting)))
        fed = self._feeding is not None and self._feeding.is_alive()
        if new and self._helper.running and not fed:
            self._feeding = threading.Thread(target=self._feed, daemon=True)
            self._feeding.start()

    def finish(self, uncommitted: Iterable[str]) -> Sessions:
        """Return all that was added, and the records in these files below ``top``.

        Raises:
            GitError: git cannot be run, or ended early.
        """
        self._read_here()
        if self._feeding is not None:
            self._feeding.join()
            self._read_here()  # what a helper that died had taken
        sessions = self._known.only(set(self._wanted))
        new = sum(len(one.rows) for one in self._read)
        for one in self._read:
            sessions.extend(one)
        if self._cache is not None and new >= WORTHWHILE:
            self._cache.write(sessions)
        sessions.extend(_read_files(self._top, uncommitted))
        return sessions

    def _read_here(self) -> None:
        if not self._waiting:
            return
        with RecordReader(self._top) as reader:
            while (wanted := self._next()) is not None:
                self._read.append(reader.read(wanted))

    def _feed(self) -> None:
        while (wanted := self._next()) is not None:
            self._helper.ask_to_read(self._top, wanted)
            answer = self._helper.read()
            if answer is None:  # killed, or short of memory: it is read here
                self._waiting.appendleft(wanted)
                return
            self._read.append(answer)

    def _next(self) -> list[tuple[str, str]] | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None


def _read_files(top: Path, paths: Iterable[str]) -> Sessions:
    digester = Digester()
    for path in paths:
        try:
            text = regular_file(f"{top}/{path}")
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            digester.bad(path, f"cannot be read: {reason}")
            continue
        digester.add(path, text)
    return digester.finish()
