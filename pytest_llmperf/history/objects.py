"""Reads many objects of a repository at once, in one run of git each."""

from __future__ import annotations

import queue
import re
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from pytest_llmperf.repository.command import GitError, execute, start, stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Git maps whole packs and keeps 96 MiB of what it unpacked; for one pass this much does.
_SMALL = (
    *("-c", "core.deltaBaseCacheLimit=16m"),
    *("-c", "core.packedGitWindowSize=1m"),
    *("-c", "core.packedGitLimit=32m"),
)
# Either the line that names a pair, or (modes, hash now, status, name) of a change.
_CHANGE = re.compile(
    rb":(\d{6}) (\d{6}) [0-9a-f]+ ([0-9a-f]+) ([A-Z])\d*\0([^\0]+)\0"
    rb"|[0-9a-f]{40,64} [0-9a-f]{40,64}\n"
)
_KINDS = (b"blob", b"tree", b"commit", b"tag")
_TREES_TOGETHER = 5_000
_BUFFER = 1 << 18
#: Far above any record or folder of them; what is longer is not kept in memory.
MAX_BYTES = 64 << 20


class ObjectReader:
    """A git that gives the contents of objects for as long as it is asked; a context manager.

    Raises:
        GitError: git cannot be run.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._process = start([*_SMALL, "cat-file", "--batch"], top, bufsize=_BUFFER)
        # Asked from another thread: git answers while there is still something to ask.
        self._questions: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def __enter__(self) -> ObjectReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._questions.put(None)
        # Whoever stops early has no use for the rest.
        stop(self._process)
        self._asking.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def read(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """Yield the content of each named object, in order; None for what is not here or too long.

        ``names`` are hashes, or ``<commit>:<path>`` without line breaks. All must be taken
        before more are asked for.

        Raises:
            GitError: git ended early.
        """
        text = "".join(f"{name}\n" for name in names)
        self._questions.put(text.encode(errors="surrogateescape"))
        stream = self._process.stdout
        assert stream is not None
        for _ in names:
            head = stream.readline()
            if not head.endswith(b"\n"):
                raise _ended(self._top)
            words = _words(head)
            if not words:
                yield None
                continue
            size = int(words[2])
            if size > MAX_BYTES:
                _skip(stream, size + 1)
                yield None
                continue
            content = stream.read(size + 1)
            if len(content) != size + 1:
                raise _ended(self._top)
            yield content[:size]

    def _ask(self) -> None:
        stream = self._process.stdin
        assert stream is not None
        with suppress(OSError):  # git is gone, or nobody reads the answers any more
            while (question := self._questions.get()) is not None:
                stream.write(question)
                stream.flush()
        with suppress(OSError):
            stream.close()


def trees(top: Path, names: Sequence[str]) -> list[tuple[str, int] | None]:
    """Return (hash, length in bytes) of each named tree, in order; None for what is none here.

    Raises:
        GitError: git cannot be run, or ended early.
    """
    form = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    said = _ask_all(top, names, "cat-file", form, "--buffer").split(b"\n")
    if len(said) != len(names) + 1:
        raise _ended(top)
    found: list[tuple[str, int] | None] = []
    for head in said[:-1]:
        words = _words(head)
        is_tree = words and words[1] == b"tree"
        found.append((words[0].decode(), int(words[2])) if is_tree else None)
    return found


def tree_contents(top: Path, hashes: Sequence[str]) -> Iterator[bytes]:
    """Yield the contents of trees that are here, in order; many small ones in little time.

    Raises:
        GitError: git cannot be run, or ended early.
    """
    for first in range(0, len(hashes), _TREES_TOGETHER):
        asked = hashes[first : first + _TREES_TOGETHER]
        said = _ask_all(top, asked, "cat-file", "--batch", "--buffer")
        position = 0
        for _ in asked:
            end = said.find(b"\n", position)
            words = _words(said[position:end])
            if end < 0 or not words:
                raise _ended(top)
            position = end + 1 + int(words[2])
            yield said[end + 1 : position]
            position += 1


def tree_changes(
    top: Path, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (status letter, name, hash now) of what changed between the trees of each pair.

    Only the trees' own entries are looked at, not those of the folders in them.

    Raises:
        GitError: git cannot be run, or one of the trees is not here.
    """
    lines = [f"{before} {after}" for before, after in pairs]
    form = ("--raw", "-z", "--no-renames", "--no-abbrev")
    said = _ask_all(top, lines, "diff-tree", "--stdin", *form)
    seen = 0
    for change in _CHANGE.finditer(said):
        if change[1] is None:
            seen += 1
        elif change[1].startswith(b"100") or change[2].startswith(b"100"):
            yield change[4], change[5], change[3]
    if seen != len(pairs):
        raise _ended(top)


def _ask_all(top: Path, lines: Sequence[str], *command: str) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    return execute([*_SMALL, *command], top, stdin=text.encode(errors="surrogateescape")).stdout


def _words(head: bytes) -> list[bytes]:
    """Split an answer's line: hash, kind, length; empty for an object that is not here."""
    words = head.split()
    if len(words) == 3 and words[1] in _KINDS and words[2].isdigit():
        return words
    return []


def _skip(stream: IO[bytes], size: int) -> None:
    while size > 0 and (read := len(stream.read(min(size, 1 << 20)))):
        size -= read


def _ended(top: Path) -> GitError:
    return GitError(
        f"git ended before it had answered about {top}; run the command again, and if that "
        "repeats: git fsck"
    )
