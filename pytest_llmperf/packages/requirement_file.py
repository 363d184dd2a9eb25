"""Reads one requirements or constraints file as pip does, as far as dependencies go."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.errors import DeclarationError

_COMMENT = re.compile(r"(^|\s)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_REFERENCE = re.compile(r"^(?:-r|--requirement|-c|--constraint)(?:[ =]+|(?<=-[rc]))(?P<path>.+)$")
_EDITABLE = re.compile(r"^(?:-e|--editable)[ =]+(?P<what>.+)$")
_FIND_LINKS = re.compile(r"^(?:-f|--find-links)[ =]+(?P<path>.+)$")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")
_EXTRAS = re.compile(r"^(?P<path>.*?)(?:\[(?P<extras>[^\[\]]*)\])?$", re.DOTALL)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class RequirementFile:
    """What one file says; includes are named, not followed.

    Attributes:
        lines: requirements, in the spelling of ``specs``.
        includes: other requirements files, posix paths from the tree.
        constraints: constraints files, likewise.
        options: what applies to the whole file, such as ``--extra-index-url ...``;
            a folder of packages inside the tree is written as a path from it.
    """

    lines: tuple[str, ...]
    includes: tuple[str, ...]
    constraints: tuple[str, ...]
    options: tuple[str, ...]


def read_text(path: Path) -> str:
    """Return a text file's content, whatever a system's editor or shell encoded it in.

    Raises:
        DeclarationError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeclarationError(f"{path}: cannot be read: {reason}; make it readable") from None
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_requirement_file(path: Path, tree: Path) -> RequirementFile:
    """Read ``path``, a file of ``tree``.

    Raises:
        DeclarationError: it cannot be read.
    """
    lines: list[str] = []
    includes: list[str] = []
    constraints: list[str] = []
    options: list[str] = []
    for line in _logical_lines(read_text(path)):
        if reference := _REFERENCE.match(line):
            named = from_tree(path.parent / reference["path"].strip(), tree)
            kind = constraints if line.startswith(("-c", "--constraint")) else includes
            kind.append(named)
        elif editable := _EDITABLE.match(line):
            lines.append(_located(editable["what"].strip(), path.parent, tree))
        elif find := _FIND_LINKS.match(line):
            options.append(f"--find-links {_links(find['path'].strip(), path.parent, tree)}")
        elif line.startswith("-"):
            options.append(" ".join(line.split()))
        elif _is_path(line):
            lines.append(_located(line, tree, tree))
        else:
            lines.append(specs.canonical(line))
    return RequirementFile(*map(tuple, (lines, includes, constraints, options)))


def _logical_lines(text: str) -> list[str]:
    """Join continued lines, drop comments and blank lines, put environment variables in."""
    joined: list[str] = []
    begun = ""
    for physical in text.splitlines():
        if physical.endswith("\\") and not physical.lstrip().startswith("#"):
            begun += physical[:-1] + " "
            continue
        joined.append(begun + physical)
        begun = ""
    joined.append(begun)
    stripped = (_COMMENT.sub("", line).strip() for line in joined)
    return [_VARIABLE.sub(_value, line) for line in stripped if line]


def _value(match: re.Match[str]) -> str:
    return os.environ.get(match[1]) or match[0]


def _is_path(line: str) -> bool:
    if specs.parse(line) is not None:
        return False
    bare = specs.without_options(line).partition("[")[0]
    if bare.startswith(("file:", ".", "/", "~")) or Path(bare).is_absolute():
        return True
    return "://" not in bare and ("/" in bare or "\\" in bare or bare.endswith(_ARCHIVES))


def _located(what: str, base: Path, tree: Path) -> str:
    """Spell a path or an address; a folder inside the tree as a local package."""
    what = specs.without_options(what)
    if "://" in what and not what.startswith("file:"):
        # An address names its package in the fragment: git+https://host/toy#egg=toy[fast]
        egg = re.search(r"[#&]egg=([^&]+)", what)
        address = what.partition("#")[0]
        return specs.canonical(f"{egg[1]} @ {address}") if egg else what
    parts = _EXTRAS.match(what.partition("#")[0])
    bare, extras = (parts["path"], parts["extras"] or "") if parts else (what, "")
    if bare.startswith("file:"):
        bare = unquote(urlsplit(bare).path)
    named = from_tree(base / Path(bare).expanduser(), tree)
    return specs.local(named, extras) if inside(named) else what


def _links(what: str, base: Path, tree: Path) -> str:
    if "://" in what or what.startswith("file:"):
        return what
    for folder in (base, tree):
        if (folder / what).exists():
            return from_tree(folder / what, tree)
    return what


def from_tree(path: Path, tree: Path) -> str:
    """Write a path from the tree, posix; what lies outside of its repository stays absolute."""
    absolute = os.path.normpath(path.absolute())
    area, top = repository_around(tree.absolute()), os.path.normpath(tree.absolute())
    if Path(absolute).is_relative_to(area):
        return Path(os.path.relpath(absolute, top)).as_posix()
    return absolute


def inside(named: str) -> bool:
    """Say whether ``from_tree`` found the path inside the repository."""
    return not Path(named).is_absolute()


def repository_around(tree: Path) -> Path:
    """Return the top of the work tree that holds ``tree``, or ``tree`` itself outside of one."""
    for folder in (tree, *tree.parents):
        if (folder / ".git").exists():
            return folder
    return tree
