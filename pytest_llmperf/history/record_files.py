"""Which record files were ever in a folder of the repository, and which blob each one is.

Git can list what each commit added (``git log --raw``), but compares whole
folders to do so: where n sessions lie in one folder that takes n^2 steps (8.6 s
for 10,000). Records are only ever added, and now and then pruned, so a few of
the folder's states hold every file: the newest one, and those just before
something was removed. Which those are is seen in the states' lengths, which git
knows without reading them. All states are compared while that is cheap.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.decisions import FOLDER as DECISIONS
from pytest_llmperf.history.objects import tree_changes, tree_contents, trees
from pytest_llmperf.repository.changes import changes
from pytest_llmperf.repository.command import GitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_llmperf.repository.git import Repository

#: Bytes of trees that one reading compares: about 0.1 s. Enough to compare all states of a
#: folder that grew to 500 sessions one by one, or that is pruned to a hundred now and then.
BUDGET = 16 << 20
_SUFFIX = b".json"


@dataclass
class RecordFiles:
    """The record files of a baselines folder, in git and beside it.

    Attributes:
        blobs: path from the repository's top -> blob, of every record that ever was in the
            history of HEAD; of a file that was changed, the newest content.
        uncommitted: paths of records in the work tree that HEAD holds otherwise or not at all;
            they are not among the blobs.
        decisions, uncommitted_decisions: HEAD's decisions and the work tree's, in the same way.
        compared, states: how many states of the machines' folders were looked into, of how many.
    """

    blobs: dict[str, str] = field(default_factory=dict)
    uncommitted: list[str] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
    uncommitted_decisions: list[str] = field(default_factory=list)
    compared: int = 0
    states: int = 0

    @property
    def gap(self) -> int:
        """Within how many of the folder's states a file may have come and gone unseen; 0: none."""
        return 0 if self.compared >= self.states else -(-self.states // max(self.compared, 1))


def head_files(repository: Repository, folder: str, machine: str | None = None) -> RecordFiles:
    """List the records and decisions that HEAD has below ``folder``, of one machine or of all.

    ``folder`` is a POSIX path from the repository's top.

    Raises:
        GitError: git cannot be asked.
    """
    if "\n" in folder:
        raise GitError(f"{folder!r}: a folder whose name holds a line break can't be looked up")
    found = RecordFiles()
    if repository.head() is None:
        return found
    for path, blob in repository.files("HEAD", folder).items():
        kind = _kind(path, folder, machine)
        if kind == "record":
            found.blobs[path] = blob
        elif kind == "decision":
            found.decisions[path] = blob
    return found


def add_others(
    repository: Repository,
    folder: str,
    commits: Sequence[str],
    found: RecordFiles,
    machine: str | None = None,
    budget: int = BUDGET,
) -> None:
    """Add to HEAD's files those of earlier commits and of the work tree.

    ``commits`` are HEAD's history, oldest first, as ``read_commits`` returns them.

    Raises:
        GitError: git cannot be asked.
    """
    # Git's own time is most of it, so one question is asked while another is answered.
    with ThreadPoolExecutor(1) as others:
        changed = others.submit(_uncommitted, repository, folder)
        for key, states in _states(repository.top, folder, commits).items():
            if machine is None or key == machine:
                below = f"{folder}/{key}" if folder else key
                _add_machine(repository.top, below, states, budget, found)
        for path in changed.result():
            kind = _kind(path, folder, machine)
            if kind == "record":
                found.uncommitted.append(path)
                found.blobs.pop(path, None)
            elif kind == "decision":
                found.uncommitted_decisions.append(path)
                found.decisions.pop(path, None)


def _states(top: Path, folder: str, commits: Sequence[str]) -> dict[str, list[str]]:
    """Return the states of every machine's folder over the commits, oldest first, each once."""
    asked = [f"{commit}:{folder}" for commit in commits]
    ordered = _without_repeats(answer[0] for answer in trees(top, asked) if answer is not None)
    machines: dict[str, list[str]] = {}
    for content in tree_contents(top, ordered):
        for mode, name, tree in _entries(content, len(ordered[0]) // 2):
            if mode == b"40000":
                machines.setdefault(name.decode(errors="surrogateescape"), []).append(tree)
    return {key: _without_repeats(states) for key, states in machines.items()}


def _without_repeats(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _entries(tree: bytes, digits: int) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield (mode, name, hash) of a tree object's entries."""
    position = 0
    while position < len(tree):
        end = tree.index(b"\0", position)
        mode, _, name = tree[position:end].partition(b" ")
        position = end + 1 + digits
        yield mode, name, tree[end + 1 : position].hex()


def _add_machine(
    top: Path, folder: str, states: Sequence[str], budget: int, found: RecordFiles
) -> None:
    there = [answer for answer in trees(top, states) if answer is not None]
    chosen = [there[index][0] for index in choose_states([size for _, size in there], budget)]
    before = _empty_tree(len(states[0]))
    pairs = []
    for tree in chosen:
        pairs.append((before, tree))
        before = tree
    head = set(found.blobs)
    for status, name, blob in tree_changes(top, pairs):
        if status != b"D" and name.endswith(_SUFFIX) and not name.startswith(b"."):
            path = f"{folder}/{name.decode(errors='surrogateescape')}"
            if path not in head:
                found.blobs[path] = blob.decode()
    found.compared += len(chosen)
    found.states += len(states)


def choose_states(sizes: Sequence[int], budget: int) -> list[int]:
    """Choose which states of a folder to compare, by their lengths in bytes, oldest first.

    All of them where that costs at most ``budget`` bytes. Otherwise the newest, those before
    the folder stopped growing (something was removed), and others evenly, in that order of
    importance, as many as the budget allows.
    """
    last = len(sizes) - 1
    if not sizes or 2 * sum(sizes) <= budget:
        return list(range(len(sizes)))
    shrinking = [i for i in range(last) if sizes[i + 1] <= sizes[i]]
    chosen = {last}
    room = budget - 2 * sizes[last]
    for group in (shrinking, [i for i in range(last) if sizes[i + 1] > sizes[i]]):
        cost = 2 * sum(sizes[i] for i in group)
        many = len(group) if cost <= room else max(0, len(group) * room // cost)
        taken = {group[k * (len(group) - 1) // max(many - 1, 1)] for k in range(many)}
        chosen |= taken
        room -= 2 * sum(sizes[i] for i in taken)
    return sorted(chosen)


def _empty_tree(digits: int) -> str:
    """Return the hash of a folder with nothing in it, which every repository knows."""
    digest = hashlib.sha1 if digits == 40 else hashlib.sha256
    return digest(b"tree 0\0").hexdigest()


def _uncommitted(repository: Repository, folder: str) -> list[str]:
    """List what the work tree holds and HEAD does not: changed, staged, untracked and ignored."""
    below = ("--", folder or ".")
    said = repository.run("--literal-pathspecs", "ls-files", "-z", "--others", *below)
    # ``git diff HEAD`` would write what it finds out about files that were only touched to the
    # index, and ``git diff-index`` take them for changed ones.
    changed = changes(repository, below=folder, untracked=False, submodules="none")
    # What is gone from the work tree is HEAD's alone.
    there = [path for path, _ in changed if os.path.lexists(repository.top / path)]
    return _without_repeats([*said.split("\0"), *there])


def _kind(path: str, folder: str, machine: str | None) -> str:
    """Tell a machine's records and decisions from everything else; empty for that."""
    inside = path[len(folder) + 1 :] if folder else path
    key, *rest = inside.split("/")
    if not path.endswith(".json") or (machine is not None and key != machine):
        return ""
    if len(rest) == 1 and not rest[0].startswith("."):
        return "record"
    if len(rest) == 2 and rest[0] == DECISIONS and not rest[1].startswith("."):
        return "decision"
    return ""
