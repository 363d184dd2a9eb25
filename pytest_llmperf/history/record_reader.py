"""Reads records from git and from the work tree; names the fix for unreadable ones."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import restore
from pytest_llmperf.baselines.folder import MAX_BYTES
from pytest_llmperf.history.levels import SessionLevels, TestLevels, different_tests, read_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_llmperf.history.index import LevelIndex
    from pytest_llmperf.repository.git import Repository

#: Records added to the index at a time; a killed command keeps those added before.
_BATCH = 500


class RecordReader:
    """Reads records of a repository; ``unreadable`` is path -> why the record cannot be used.

    ``index`` caches records read before; ``progress`` is called with the number of other records
    read from git so far, and their total.
    """

    def __init__(
        self,
        repository: Repository,
        index: LevelIndex | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._repository, self._index, self._progress = repository, index, progress
        # Thousands of sessions measured the same tests: they share one description of them.
        self._tests: dict[tuple[TestLevels, ...], tuple[TestLevels, ...]] = {}
        self.unreadable: dict[str, str] = {}

    def committed(self, blobs: Mapping[str, str]) -> dict[str, SessionLevels]:
        """Return path -> levels of committed records (path -> blob).

        Raises:
            GitError: git failed.
        """
        known = self._index.read(list(blobs.values())) if self._index is not None else {}
        self._tests.update((tests, tests) for tests in different_tests(known.values()))
        paths: dict[str, str] = {}
        for path, blob in blobs.items():
            if blob not in known:
                paths.setdefault(blob, path)
        batch: dict[str, SessionLevels] = {}
        contents = committed_contents(self._repository, list(paths))
        for number, (blob, content) in enumerate(zip(paths, contents, strict=True), start=1):
            levels = self._read(paths[blob], content)
            if levels is not None:
                known[blob] = batch[blob] = levels
            if batch and (len(batch) == _BATCH or number == len(paths)):
                if self._index is not None:
                    self._index.add(batch)
                batch = {}
            if self._progress is not None:
                self._progress(number, len(paths))
        return {path: known[blob] for path, blob in blobs.items() if blob in known}

    def uncommitted(self, paths: Sequence[str]) -> dict[str, SessionLevels]:
        """Return path -> levels of records in the work tree."""
        records = {}
        for path in paths:
            content = work_tree_content(f"{self._repository.top}/{path}")
            levels = None if content is None else self._read(path, content)
            if levels is not None:
                records[path] = levels
        return records

    def _read(self, path: str, content: bytes | str) -> SessionLevels | None:
        """Read a record's content; a ``str`` says why its file could not be read."""
        try:
            if isinstance(content, str):
                raise ValueError(content)
            levels = read_levels(content)
        except ValueError as error:
            self.unreadable[path] = str(error)
            return None
        return levels._replace(tests=self._tests.setdefault(levels.tests, levels.tests))


_NOT_HERE = (
    "its content is not in this clone, or far too long\n"
    "restore the content: git fetch --refetch; a file that is too long can only be removed"
)
_NO_FILE = "not a regular file, or far too long\nremove it"
#: Flags to open a file without blocking, as it may be a pipe.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def committed_contents(repository: Repository, blobs: Sequence[str]) -> Iterator[bytes | str]:
    """Yield the content of each blob, in order, or why it cannot be read.

    Raises:
        GitError: git failed.
    """
    for content in repository.available_blobs(blobs, MAX_BYTES):
        yield _NOT_HERE if content is None else content


def work_tree_content(path: str) -> bytes | str | None:
    """Return a file's content, or why it cannot be read; None if the file is gone."""
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return _NO_FILE
            return file.read()
    except FileNotFoundError:  # also a link to nowhere
        return None
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"


def with_remedy(why: str, path: str, top: Path, again: str) -> str:
    """Return the reason, with the remedy on a second line unless it has one.

    ``path`` is the file's, from the repository's ``top``; ``again`` says how to make another
    file of this kind.
    """
    if "\n" in why:
        return why
    if (top / path).exists() or (top / path).is_symlink():
        return f"{why}\n{restore(top / path, again)}"
    return f"{why}\nit lies in earlier commits only, so there is nothing to restore or to remove"
