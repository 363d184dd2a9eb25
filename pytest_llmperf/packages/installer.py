"""The installer that resolves trees and fills environments: uv, or the pip of this environment."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.installed import Installed, holds

#: The first pip that can work on another environment (``--python``).
_OLDEST_PIP = "22.3"
_TIMEOUT_S = 20.0
#: How uv prints what it would install: ``+ toy==1.0``, ``~ toy==1.0 (from URL)``, ``+ toy @ URL``.
_UV_CHANGE = re.compile(
    r"^ [+~] (?P<name>[\w.-]+)(?P<version>==\S+)?(?: @ (?P<at>\S+)| \(from (?P<source>.+)\))?$"
)


@dataclass(frozen=True)
class Installer:
    """A program that works on an environment given by its interpreter.

    Attributes:
        name: ``uv`` or ``pip``.
        program: the words that start it.
    """

    name: str
    program: tuple[str, ...]

    def install(self, python: Path, file: Path, *, unbuilt: str | None = None) -> list[str]:
        """Return the words that install exactly what a requirements file pins.

        Args:
            python: of the environment.
            file: the requirements file.
            unbuilt: a package to be built from source, whatever wheel a cache holds.
        """
        no_cache = "--no-cache" if self.name == "uv" else "--no-cache-dir"
        fresh = [no_cache, "--no-binary", unbuilt] if unbuilt else []
        return [*self._install(python), "--no-deps", *fresh, "-r", str(file)]

    def resolve(self, python: Path, words: Sequence[str], report: Path) -> list[str]:
        """Return the words that find out, and do no more, what would be installed.

        Args:
            python: of the environment to start from.
            words: what to install.
            report: a file that pip writes its answer into.
        """
        reporting = [] if self.name == "uv" else ["--report", str(report)]
        return [*self._install(python), "--dry-run", *reporting, *words]

    def changes(self, output: str, report: Path) -> dict[str, str]:
        """Read the answer of ``resolve``: canonical name -> requirement with the exact version.

        Raises:
            InstallError: it is no answer.
        """
        if self.name == "uv":
            found = filter(None, map(_UV_CHANGE.match, output.splitlines()))
            return {canonicalize_name(each["name"]): _of_uv(each) for each in found}
        try:
            items = json.loads(report.read_text(encoding="utf-8"))["install"]
            return {canonicalize_name(each["metadata"]["name"]): _of_pip(each) for each in items}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InstallError(f"pip's report {report} cannot be read: {error!r}") from None

    def _install(self, python: Path) -> list[str]:
        if self.name == "uv":
            plain = ["--no-progress", "--color", "never"]
            return [*self.program, "pip", "install", *plain, "--python", str(python)]
        return [*self.program, "--python", str(python), "install", "--progress-bar", "off"]


def _of_uv(match: re.Match[str]) -> str:
    name, address = canonicalize_name(match["name"]), match["at"] or match["source"]
    return f"{name} @ {address}" if address else f"{name}{match['version']}"


def _of_pip(item: Mapping[str, Any]) -> str:
    name, version = canonicalize_name(item["metadata"]["name"]), item["metadata"]["version"]
    if not item["is_direct"]:
        return f"{name}=={version}"
    info = item["download_info"]
    address = str(info["url"])
    if vcs := info.get("vcs_info"):
        address = f"{vcs['vcs']}+{address}@{vcs['commit_id']}"
    folder = info.get("subdirectory")
    return f"{name} @ {address}" + (f"#subdirectory={folder}" if folder else "")


def find_installer(
    installed: Installed, environ: Mapping[str, str], *, only_uv: bool = False
) -> Installer:
    """Return the installer to use.

    Where both are there: uv, unless pip installed most of this environment; where packages
    come from is then set up for pip, and uv does not read that.

    Args:
        installed: this environment's distributions.
        environ: its variables.
        only_uv: whether a ``uv.lock`` has to be read.

    Raises:
        InstallError: there is none.
    """
    uv, pip = _uv(environ), None if only_uv else _pip(installed)
    if uv and pip:
        # A venv comes with these, whatever installs the rest.
        others = [each for name, each in installed.items() if name not in ("pip", "setuptools")]
        by = Counter((each.raw.read_text("INSTALLER") or "").strip() for each in others)
        return pip if by["pip"] > by["uv"] else uv
    if found := uv or pip:
        return found
    if only_uv:
        raise InstallError(
            f"uv.lock is not the same in both commits, and there is no uv on PATH to read it: "
            f"install uv; or {BY_HAND}"
        )
    raise InstallError(
        f"the other commit may need other packages, and there is neither uv on PATH nor pip "
        f"{_OLDEST_PIP} or newer in this environment to install them: "
        f"{sys.executable} -m ensurepip --upgrade, or install uv; or {BY_HAND}"
    )


def _uv(environ: Mapping[str, str]) -> Installer | None:
    beside = str(Path(sys.executable).parent)
    program = shutil.which("uv", path=os.pathsep.join([environ.get("PATH", ""), beside]))
    module = importlib.util.find_spec("uv")
    words = (program,) if program else (sys.executable, "-m", "uv") if module else ()
    if not words:
        return None
    try:  # a version manager's stand-in is there, but only says that uv is not
        done = subprocess.run(
            [*words, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Installer("uv", words) if done.returncode == 0 else None


def _pip(installed: Installed) -> Installer | None:
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        return None
    if "pip" in installed and not holds(installed["pip"].version, f">={_OLDEST_PIP}"):
        return None
    # By its path, so that no module of the folder it runs in is taken for one of Python's.
    return Installer("pip", (sys.executable, "-I", str(Path(spec.origin).parent)))
