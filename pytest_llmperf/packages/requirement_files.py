"""Parses requirements files: requirements, options, and included files."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from pytest_llmperf.packages.errors import InstallError

_COMMENT = re.compile(r"(^|\s)#.*$")
_INCLUDED = re.compile(
    r"^(?P<option>-r|--requirement|-c|--constraint)(?:[ =]+|(?<=-[rc]))(?P<path>.+)$"
)
_EDITABLE = re.compile(r"^(?:-e|--editable)[ =]+")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2")
#: Hashes and other options of a single requirement follow it after a blank.
_OWN_OPTIONS = re.compile(r"\s+--[a-z]")
#: Options of a whole file that say where packages come from, and in which form.
_SOURCES = (
    *("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--pre"),
    *("--trusted-host", "--no-binary", "--only-binary", "--prefer-binary"),
)


def read_text(path: Path) -> str:
    """Return the content of a text file, UTF-16 (from a PowerShell redirection) included.

    Raises:
        InstallError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InstallError(f"{path}: cannot be read: {reason}; make it readable") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def logical_lines(path: Path) -> list[str]:
    """Return the lines of a file: continued ones joined, comments and blank ones left out."""
    text = re.sub(r"\\\r?\n", " ", read_text(path))
    stripped = (_COMMENT.sub("", line).strip() for line in text.splitlines())
    return [line for line in stripped if line]


def included_files(path: Path, *, constraints: bool = False) -> list[Path]:
    """Return a file and those that it includes, each once; optionally constraints files."""
    found: dict[Path, None] = {}
    todo = [path]
    while todo:
        file = Path(os.path.normpath(todo.pop(0)))
        if file in found or not file.is_file():
            continue
        found[file] = None
        for line in logical_lines(file):
            match = _INCLUDED.match(line)
            if match and (constraints or match["option"] in ("-r", "--requirement")):
                todo.append(file.parent / match["path"].strip("'\""))
    return list(found)


def requirements_of(path: Path) -> list[str]:
    """Return the requirements of a file and of those that it includes."""
    return requirements_in([line for file in included_files(path) for line in logical_lines(file)])


def constraints_of(path: Path) -> list[str]:
    """Return the constraints of the constraints files that a requirements file includes."""
    own = included_files(path)
    files = [file for file in included_files(path, constraints=True) if file not in own]
    return requirements_in([line for file in files for line in logical_lines(file)])


def requirements_in(lines: Iterable[str]) -> list[str]:
    """Return the requirements among lines of requirements files, without hashes and the like.

    Folders are left out, as they contain the repository's own packages.
    """
    found = []
    for line in lines:
        what = _OWN_OPTIONS.split(_EDITABLE.sub("", line), maxsplit=1)[0].strip()
        remote = "://" in what and not what.startswith("file:")
        if not what.startswith("-") and (remote or what.endswith(_ARCHIVES) or parse(what)):
            found.append(what)
    return found


def options_of(path: Path) -> list[str]:
    """Return a requirements file's options about indexes and folders of packages."""
    options = []
    for file in included_files(path):
        for line in logical_lines(file):
            name, _, value = line.replace("=", " ", 1).partition(" ")
            if name not in _SOURCES:
                continue
            folder = file.parent / value.strip()
            local = name in ("-f", "--find-links") and folder.is_dir()
            options.append(f"{name} {folder.resolve().as_uri()}" if local else line)
    return options


def parse(line: str) -> Requirement | None:
    """Read a PEP 508 requirement; None for anything else."""
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None
