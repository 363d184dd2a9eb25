"""Requirements written as tables: Poetry's and Pipenv's ``name = "^1.2"`` and ``name = {...}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.packages import specs

_VERSION = re.compile(r"^v?(?P<release>\d+(?:\.\d+)*)(?P<rest>[A-Za-z0-9.+-]*)$")
_VCS = ("git", "hg", "svn", "bzr")


def requirements_of(name: str, value: Any, folder: str = "") -> list[str]:
    """Return what one entry of such a table requires, in the spelling of ``specs``.

    What has no such spelling (``^1 || ^2``) comes back as it was written, which
    only matters where it differs between two trees.

    Args:
        name: of the package.
        value: a version, a table, or a list of tables for different platforms.
        folder: where the table's file lies, posix from the tree; for ``path = ...``.
    """
    if isinstance(value, list):
        return [line for each in value for line in requirements_of(name, each, folder)]
    if isinstance(value, str):
        value = {"version": value}
    if not isinstance(value, Mapping):
        return [f"{name} {value!r}"]
    extras = value.get("extras")
    extras = ",".join(map(str, extras)) if isinstance(extras, list) else ""
    if path := value.get("path") or value.get("file"):
        return [specs.local(_join(folder, str(path)), extras)]
    head = f"{name}[{extras}]" if extras else name
    marker = _marker(value)
    tail = f" ; {marker}" if marker else ""
    for vcs in _VCS:
        if vcs in value:
            revision = value.get("rev") or value.get("ref") or value.get("tag")
            revision = revision or value.get("branch")
            address = f"{vcs}+{value[vcs]}" + (f"@{revision}" if revision else "")
            if folder_there := value.get("subdirectory"):
                address += f"#subdirectory={folder_there}"
            return [specs.canonical(f"{head} @ {address}{tail}")]
    if url := value.get("url"):
        return [specs.canonical(f"{head} @ {url}{tail}")]
    version = str(value.get("version", "*"))
    specifier = specifier_of(version)
    if specifier is None:
        return [f"{name} {version}{tail}"]
    return [specs.canonical(f"{head}{specifier}{tail}")]


def specifier_of(text: str) -> str | None:
    """Turn ``^1.2``, ``~1.2``, ``1.2``, ``1.*`` or ``*`` into PEP 440; None if there is no such.

    A caret allows everything up to the next change of the leftmost number that
    is not zero; a tilde, of the second number.
    """
    parts = [_one(part.strip()) for part in text.split(",")]
    if "|" in text or any(part is None for part in parts):
        return None
    return ",".join(filter(None, parts))


def _one(part: str) -> str | None:
    if part in ("*", ""):
        return ""
    if part[0] == "^" or (part[0] == "~" and part[:2] != "~="):
        match = _VERSION.match(part[1:].strip())
        if match is None:
            return None
        release = [int(number) for number in match["release"].split(".")]
        return f">={part[1:].strip()},<{_next(release, caret=part[0] == '^')}"
    if part[0] in "<>=!~":
        found = re.match(r"^(===|==|~=|!=|<=|>=|<|>|=)\s*(\S+)$", part)
        return f"{'==' if found[1] == '=' else found[1]}{found[2]}" if found else None
    return f"=={part}" if _VERSION.match(part) or part.endswith(".*") else None


def _next(release: list[int], *, caret: bool) -> str:
    if caret:
        places = (i for i, number in enumerate(release) if number)
        place = next(places, len(release) - 1)
    else:
        place = min(1, len(release) - 1)
    return ".".join(map(str, [*release[:place], release[place] + 1]))


def _marker(value: Mapping[str, Any]) -> str:
    """Put together what an entry says about where it applies."""
    parts = []
    if markers := value.get("markers"):
        parts.append(f"({markers})")
    python = specifier_of(str(value.get("python", "*")))
    for part in filter(None, (python or "").split(",")):
        found = re.match(r"^(\W+)(.+)$", part)
        if found:
            variable = "python_version" if found[2].count(".") < 2 else "python_full_version"
            parts.append(f"{variable} {found[1]} '{found[2]}'")
    if platform := value.get("platform") or value.get("sys_platform"):
        compared = str(platform) if str(platform)[0] in "=!" else f"== '{platform}'"
        parts.append(f"sys_platform {compared}")
    return " and ".join(parts)


def _join(folder: str, path: str) -> str:
    from posixpath import join, normpath

    return normpath(join(folder, path.replace("\\", "/")))
