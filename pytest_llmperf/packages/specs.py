"""One requirement, in one spelling, so that equal ones compare equal.

A requirement is kept as text. Three kinds of text occur: a PEP 508 requirement
(``toy[fast]>=1``), ``local:FOLDER[extras]`` for a package inside the tree, and
whatever else only an installer understands, as it was written.
"""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_LOCAL = re.compile(r"^local:(?P<folder>[^\[]*)(?:\[(?P<extras>[^\]]*)\])?$")
#: Options of one requirement follow it after a blank, and begin with two dashes.
_OPTIONS = re.compile(r"\s+--[a-z]")


@lru_cache(maxsize=4096)
def parse(text: str) -> Requirement | None:
    """Read a PEP 508 requirement, its options (hashes) ignored; None if it is not one."""
    try:
        return Requirement(_OPTIONS.split(text, maxsplit=1)[0].strip())
    except InvalidRequirement:
        return None


def canonical(text: str) -> str:
    """Spell a requirement in the one way: name, extras, versions, address, marker, options."""
    options = _OPTIONS.search(text)
    tail = sorted(text[options.start() :].split()) if options else []
    requirement = parse(text)
    if requirement is None:
        return " ".join(text.split())
    extras = f"[{','.join(sorted(map(canonicalize_name, requirement.extras)))}]"
    spelled = canonicalize_name(requirement.name) + (extras if requirement.extras else "")
    spelled += ",".join(sorted(map(str, requirement.specifier)))
    if requirement.url:
        spelled += f" @ {requirement.url}"
    if requirement.marker:
        spelled += f" ; {requirement.marker}" if requirement.url else f"; {requirement.marker}"
    return " ".join([spelled, *tail])


def without_options(text: str) -> str:
    """Return the requirement without its hashes and other options."""
    return _OPTIONS.split(text, maxsplit=1)[0].strip()


def name_of(text: str) -> str:
    """Return the canonical name of a requirement, or the text itself where it has none."""
    requirement = parse(text)
    return canonicalize_name(requirement.name) if requirement else text


def local(folder: str, extras: str = "") -> str:
    """Spell a package that lies in ``folder`` (posix, from the tree)."""
    names = sorted(canonicalize_name(part.strip()) for part in extras.split(",") if part.strip())
    return f"local:{folder}[{','.join(names)}]" if names else f"local:{folder}"


def parse_local(text: str) -> tuple[str, frozenset[str]] | None:
    """Read what ``local`` spelled: the folder and the extras; None for other kinds."""
    match = _LOCAL.match(text)
    if match is None:
        return None
    return match["folder"], frozenset(filter(None, (match["extras"] or "").split(",")))


def applies(requirement: Requirement, extras: frozenset[str] = frozenset()) -> bool:
    """Say whether the requirement's marker holds in this interpreter, for one of the extras."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""})


def holds(version: str, specifier: str) -> bool:
    """Say whether an installed version is within a specifier; pre-releases count as versions."""
    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return specifier in ("", f"=={version}", f"==={version}")
