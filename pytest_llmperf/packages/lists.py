"""One named list of requirements of a tree, and what else a file may contribute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

#: project: always needed. extra, group: only if asked for. file: a requirements file.
#: constraints: limits what is installed. build: to build the project. python: requires-python.
#: settings: of the installer.
Kind = Literal["project", "extra", "group", "file", "constraints", "build", "python", "settings"]

_WORDS: dict[Kind, str] = {
    "extra": "extra",
    "group": "group",
    "constraints": "constraints",
    "build": "build requirements",
    "python": "requires-python",
}


class Key(NamedTuple):
    """What makes two trees' lists the same one: file (posix, from the tree), kind and name."""

    file: str
    kind: Kind
    name: str = ""


@dataclass(frozen=True)
class DependencyList:
    """One list of requirements.

    Attributes:
        key: which one.
        lines: requirements in the spelling of ``specs``, sorted (the order means nothing).
        includes: lists that belong to this one.
        constraints: files that limit what is installed for it, posix from the tree.
        options: what it tells the installer, such as ``--extra-index-url ...``.
    """

    key: Key
    lines: tuple[str, ...]
    includes: tuple[Key, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What a user would call it: ``pyproject.toml extra dev``."""
        file, kind, name = self.key
        return " ".join(filter(None, (file, _WORDS.get(kind, ""), name)))


@dataclass
class Part:
    """What one file contributes.

    Attributes:
        lists: its lists.
        unreadable: what can only be compared, not understood: file (or file and
            table) -> a text that is equal where it means the same.
        names: of the packages that the file describes, canonical.
    """

    lists: list[DependencyList] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def add(self, key: Key, lines: list[str], includes: list[Key] | None = None) -> None:
        """Add a list."""
        self.lists.append(DependencyList(key, tuple(sorted(set(lines))), tuple(includes or ())))
