"""The distributions installed in an environment, and their requirements."""

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

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ENGINE = "llama-cpp-python"
PLUGIN = "pytest-llmperf"
#: Not copied to other environments: installers run outside, and the session adds the plugin.
NOT_COPIED = frozenset({"pip", "uv", PLUGIN})


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
        # The standard library reads the whole metadata again at each access.
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

    def is_from(self, area: Path) -> bool:
        """Whether it was installed from a folder below ``area``."""
        source = self.source()
        return source is not None and source.resolve().is_relative_to(area)

    def home(self) -> Path:
        """Return the folder that it was installed from, or else the one it is in."""
        return self.source() or self.folder

    def requirements(self, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
        """Yield its requirements in this interpreter, including those of the extras."""
        for text in self._requires:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in extras | {""}):
                yield requirement

    def extras(self) -> dict[str, list[str]]:
        """Return the additional requirements of each of its extras."""
        always = {str(each) for each in self.requirements()}
        names = map(canonicalize_name, self.raw.metadata.get_all("Provides-Extra") or ())
        return {
            name: [
                str(each).partition(";")[0]
                for each in self.requirements(frozenset({name}))
                if str(each) not in always
            ]
            for name in names
        }

    def record(self) -> str:
        """Return a digest of its list of files and their hashes, which changes with a rebuild."""
        text = self.raw.read_text("RECORD") or self.raw.read_text("METADATA") or ""
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    @property
    def info(self) -> Path | None:
        """The folder of its metadata (dist-info or egg-info)."""
        # Private, but the only source of the path, since Python 3.8.
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

    def satisfies(self, requirement: Requirement) -> bool:
        """Whether a distribution meets a requirement, wherever it was installed from."""
        found = self._found.get(canonicalize_name(requirement.name))
        if found is None or not holds(found.version, str(requirement.specifier)):
            return False
        extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
        needed = found.requirements(extras) if extras else ()
        return all(canonicalize_name(each.name) in self._found for each in needed)


def holds(version: str, specifier: str) -> bool:
    """Whether a version matches a specifier; pre-releases count as versions."""
    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return specifier in ("", f"=={version}", f"==={version}")


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
    """Return the distributions of this interpreter's environment, without PYTHONPATH."""
    return Installed(site_folders())
