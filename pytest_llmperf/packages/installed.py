"""The distributions installed in an environment, and what they need of each other."""

from __future__ import annotations

import hashlib
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pytest_llmperf.packages import specs

#: A name and the extras asked of it.
Wanted = tuple[str, frozenset[str]]


@dataclass(frozen=True)
class Distribution:
    """One installed distribution.

    Attributes:
        name: canonical.
        version: as its metadata says.
        folder: of site-packages, where it lies.
        raw: the standard library's view of it.
    """

    name: str
    version: str
    folder: Path
    raw: metadata.Distribution

    @cached_property
    def _requires(self) -> list[str]:
        # Each asking of the standard library reads the whole metadata again.
        return list(self.raw.requires or ())

    def direct_url(self) -> dict[str, Any]:
        """Return where it was installed from (PEP 610), empty if from an index."""
        try:
            found = json.loads(self.raw.read_text("direct_url.json") or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def source(self) -> Path | None:
        """Return the folder on this machine that it was installed from, if it was."""
        found = self.direct_url()
        if "dir_info" not in found:
            return None
        address = urlsplit(str(found.get("url", "")))
        return Path(url2pathname(address.path)) if address.scheme == "file" else None

    def editable(self) -> bool:
        """Say whether its modules lie in its source folder."""
        information = self.direct_url().get("dir_info")
        return isinstance(information, dict) and bool(information.get("editable"))

    def requirements(self, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
        """Yield what it needs in this interpreter, itself and for the extras."""
        for text in self._requires:
            requirement = specs.parse(text)
            if requirement and specs.applies(requirement, extras | {""}):
                yield requirement

    def record(self) -> str:
        """Return a digest of its list of files and their hashes: rebuilt, it is another one."""
        text = self.raw.read_text("RECORD") or self.raw.read_text("METADATA") or ""
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    @property
    def info(self) -> Path | None:
        """The folder of its metadata (dist-info or egg-info)."""
        # Not public, but the one place that names it, since Python 3.8.
        path = getattr(self.raw, "_path", None)
        return Path(path) if path is not None else None


class Installed(Mapping[str, Distribution]):
    """Distributions by canonical name; the first on the path counts, as when importing."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._found: dict[str, Distribution] = {}
        for folder in folders:
            for raw in metadata.distributions(path=[str(folder)]):
                try:
                    name, version = raw.metadata["Name"], raw.version
                except Exception:  # a broken left-over of an installer is not a distribution
                    continue
                if name and version:
                    key = canonicalize_name(name)
                    self._found.setdefault(key, Distribution(key, version, folder, raw))

    def __getitem__(self, name: str) -> Distribution:
        """Return the distribution with this canonical name."""
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def closure(self, wanted: Iterable[Wanted]) -> set[str]:
        """Return the names of what is wanted and installed, and of all that it needs."""
        todo, seen = list(wanted), set()
        while todo:
            name, extras = todo.pop()
            if name not in self._found or (name, extras) in seen:
                continue
            seen.add((name, extras))
            for needed in self._found[name].requirements(extras):
                more = frozenset(canonicalize_name(extra) for extra in needed.extras)
                todo.append((canonicalize_name(needed.name), more))
        return {name for name, _ in seen}

    def satisfies(self, requirement: Requirement) -> bool:
        """Say whether what is installed meets a requirement, its extras and address included."""
        found = self._found.get(canonicalize_name(requirement.name))
        if found is None:
            return False
        if requirement.url:
            return _comes_from(found.direct_url(), requirement.url)
        if not specs.holds(found.version, str(requirement.specifier)):
            return False
        extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
        needed = found.requirements(extras) if extras else ()
        return all(canonicalize_name(each.name) in self._found for each in needed)


def _comes_from(direct_url: Mapping[str, Any], url: str) -> bool:
    """Compare an address with where a distribution was installed from."""
    recorded = str(direct_url.get("url", ""))
    vcs = direct_url.get("vcs_info")
    if not isinstance(vcs, Mapping):
        return bool(recorded) and recorded.rstrip("/") == url.partition("#")[0].rstrip("/")
    bare = url.partition("#")[0]
    # Only an @ in the path begins a revision; the one of git@host does not.
    _, at, revision = urlsplit(bare).path.rpartition("@")
    address, asked = (bare[: -len(revision) - 1], revision) if at else (bare, None)
    return address == f"{vcs.get('vcs')}+{recorded}" and asked in (
        vcs.get("requested_revision"),
        vcs.get("commit_id"),
    )


def site_folders() -> list[Path]:
    """Return this interpreter's folders of installed packages that are on its path, in order."""
    named = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        named.append(site.getusersitepackages())
    known = {os.path.realpath(folder) for folder in named}
    found: dict[str, Path] = {}
    for folder in sys.path:
        real = os.path.realpath(folder)
        if real in known and Path(folder).is_dir():
            found.setdefault(real, Path(folder))
    return list(found.values())


def installed_here() -> Installed:
    """Return what this interpreter's environment holds; what PYTHONPATH adds does not count."""
    return Installed(site_folders())
