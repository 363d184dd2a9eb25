"""Finds all record files that were ever in a folder of the repository, and their blobs.

``git log --raw`` would be exact, but compares whole folders: for n sessions in one folder
that takes n^2 steps (8.9 s for 10,000). Records are only ever added, and pruned now and then, so
a long folder's newest state and the states after which it did not grow hold every file. (A state
of a folder is its tree at one or more commits; git knows its length without reading it.)
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.folder import DECISIONS_FOLDER
from pytest_llmperf.repository.changes import changes
from pytest_llmperf.repository.command import GitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmperf.repository.git import Repository

#: Bytes of a folder's states that are always compared, in about 0.1 s: all states of a folder
#: that grew to 500 sessions one by one, or that is pruned to a hundred now and then.
BUDGET = 8 << 20


@dataclass
class RecordFiles:
    """The record files of a baselines folder, in git and beside it.

    Attributes:
        blobs: path from the repository's top -> blob, for every record that ever was in the
            history of HEAD; for a file that was changed, the newest content.
        uncommitted: paths of records in the work tree that HEAD lacks or has with other
            content; they are not among the blobs.
        decisions, uncommitted_decisions: HEAD's decisions and the work tree's, in the same way.
        compared, states: number of states of the machines' folders that were compared, and of all.
    """

    blobs: dict[str, str] = field(default_factory=dict)
    uncommitted: list[str] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
    uncommitted_decisions: list[str] = field(default_factory=list)
    compared: int = 0
    states: int = 0

    @property
    def gap(self) -> int:
        """Number of folder states between which a file may have come and gone unseen, or 0."""
        return 0 if self.compared >= self.states else -(-self.states // max(self.compared, 1))


def find_record_files(
    repository: Repository,
    folder: str,
    commits: Sequence[str],
    machine: str | None = None,
    budget: int = BUDGET,
) -> RecordFiles:
    """List the records and decisions below ``folder``, of one machine or of all.

    ``folder`` is a POSIX path from the repository's top; ``commits`` are HEAD's history, oldest
    first. If a folder's states are longer than ``budget`` bytes, only some are compared.

    Raises:
        GitError: git failed.
    """
    if "\n" in folder:
        raise GitError(f"{folder!r}: a folder whose name holds a line break can't be looked up")
    # One git looks at the work tree while another reads the commits.
    with ThreadPoolExecutor(1) as beside:
        uncommitted = beside.submit(_uncommitted, repository, folder)
        files = _committed(repository, folder, commits, machine, budget)
    for path in uncommitted.result():
        kind = _kind(path, folder, machine)
        if path in files.blobs and not (repository.top / path).is_file():
            continue  # a folder or a pipe in a record's place
        if kind == "record":
            files.uncommitted.append(path)
            files.blobs.pop(path, None)
        elif kind == "decision":
            files.uncommitted_decisions.append(path)
            files.decisions.pop(path, None)
    return files


def _committed(
    repository: Repository, folder: str, commits: Sequence[str], machine: str | None, budget: int
) -> RecordFiles:
    """List HEAD's records and decisions, and the records that earlier commits had."""
    files = RecordFiles()
    if not commits:
        return files
    for path, blob in repository.files(commits[-1], folder).items():
        kind = _kind(path, folder, machine)
        if kind == "record":
            files.blobs[path] = blob
        elif kind == "decision":
            files.decisions[path] = blob
    removed = {}
    for key, states in _states(repository, folder, commits).items():
        if machine is not None and key != machine:
            continue
        below = f"{folder}/{key}" if folder else key
        trees = _trees(repository, states)
        chosen = states_to_compare([length for _, length in trees], budget)
        for mode, name, blob in _changes(repository, [trees[i][0] for i in chosen]):
            path = f"{below}/{name}"
            if mode.startswith("100") and _is_record(name) and path not in files.blobs:
                removed[path] = blob
        files.compared += len(chosen)
        files.states += len(states)
    files.blobs |= removed
    return files


def states_to_compare(lengths: Sequence[int], budget: int) -> list[int]:
    """Return the indices of the states to compare, given their lengths in bytes, oldest first.

    They are the newest, those after which the folder did not grow, and as many of the others,
    evenly spaced, as ``budget`` bytes allow.
    """
    last = len(lengths) - 1
    chosen = [i for i in range(last + 1) if i == last or lengths[i + 1] <= lengths[i]]
    others = sorted(set(range(last)) - set(chosen))
    room = budget - sum(lengths[i] for i in chosen)
    if room > 0:
        step = -(-sum(lengths[i] for i in others) // room)
        chosen += others[:: max(step, 1)]
    return sorted(chosen)


def _states(repository: Repository, folder: str, commits: Sequence[str]) -> dict[str, list[str]]:
    """Return the trees of every machine's folder over the commits, oldest first, each once."""
    trees = [tree for tree, _ in _trees(repository, [f"{commit}:{folder}" for commit in commits])]
    machines: dict[str, dict[str, None]] = {}
    for mode, name, tree in _changes(repository, list(dict.fromkeys(trees))):
        if mode == "040000":
            machines.setdefault(name, {})[tree] = None
    return {name: list(states) for name, states in machines.items()}


def _trees(repository: Repository, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return (hash, length in bytes) of the named objects that exist and are trees."""
    form = "--batch-check=%(objecttype) %(objectname) %(objectsize)"
    output = repository.run("cat-file", form, "--buffer", stdin=_lines(names))
    answers = (line.split(" ") for line in output.splitlines() if line.startswith("tree "))
    return [(name, int(length)) for _, name, length in answers]


def _changes(repository: Repository, trees: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (mode, name, hash) of each tree's entries that the tree before it lacks."""
    if not trees:
        return
    before = [_empty_tree(repository), *trees[:-1]]
    pairs = [f"{old} {new}" for old, new in zip(before, trees, strict=True)]
    form = ("--raw", "-z", "--no-renames", "--no-abbrev")
    fields = repository.run("diff-tree", "--stdin", *form, stdin=_lines(pairs)).split("\0")
    # A pair's own line precedes its first change, which starts with a colon.
    for facts, name in zip(fields[::2], fields[1::2], strict=False):
        _, mode, _, blob, status = facts.rpartition(":")[2].split(" ")
        if status != "D":
            yield mode, name, blob


def _uncommitted(repository: Repository, folder: str) -> list[str]:
    """List files that HEAD lacks: changed, staged, untracked and ignored."""
    below = ("--", folder or ".")
    output = repository.run("--literal-pathspecs", "ls-files", "-z", "--others", *below)
    changed = changes(repository, below=folder, untracked=False, submodules="none")
    paths = dict.fromkeys([*output.split("\0")[:-1], *(path for path, _ in changed)])
    # Files deleted from the work tree are read from HEAD.
    return [path for path in paths if os.path.lexists(repository.top / path)]


def _empty_tree(repository: Repository) -> str:
    """Return the hash of an empty folder, which git knows without storing it."""
    return repository.run("hash-object", "-t", "tree", "--stdin", stdin="").strip()


def _lines(items: Iterable[str]) -> str:
    return "".join(f"{item}\n" for item in items)


def _kind(path: str, folder: str, machine: str | None) -> str:
    """Return the kind of a file: a machine's record or decision; empty for others."""
    inside = path[len(folder) + 1 :] if folder else path
    key, *rest = inside.split("/")
    if (machine is not None and key != machine) or not rest or not _is_record(rest[-1]):
        return ""
    if len(rest) == 1:
        return "record"
    return "decision" if len(rest) == 2 and rest[0] == DECISIONS_FOLDER else ""


def _is_record(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")
