"""The installer to use on another environment: uv, or the pip of this environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.installed import Installed
from pytest_llmperf.packages.specs import holds

#: The first pip that can work on another environment (``--python``).
_OLDEST_PIP = "22.3"
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Installer:
    """A program that installs into an environment given by its interpreter.

    Attributes:
        name: ``uv`` or ``pip``.
        program: the words that start it.
    """

    name: str
    program: tuple[str, ...]

    def command(
        self, python: Path, files: Sequence[str], *, unbuilt: str | None = None
    ) -> list[str]:
        """Return the words that install what requirements and constraints files say.

        Args:
            python: of the environment.
            files: ``-r FILE`` and ``-c FILE``.
            unbuilt: a package to be built from source, whatever wheel a cache holds.
        """
        if self.name == "uv":
            words = [*self.program, "pip", "install", "--no-progress", "--python", str(python)]
            fresh = ["--no-cache", "--no-binary", str(unbuilt)]
        else:
            words = [*self.program, "--python", str(python), "install", "--progress-bar", "off"]
            fresh = ["--no-cache-dir", "--no-binary", str(unbuilt)]
        return [*words, *(fresh if unbuilt else ()), *files]


def find_installer(installed: Installed, environ: Mapping[str, str]) -> Installer:
    """Return the installer to use.

    Where both are there: uv, unless pip installed most of this environment; where packages
    come from is then set up for pip, and uv does not read that.

    Raises:
        InstallError: there is neither.
    """
    uv, pip = _uv(environ), _pip(installed)
    if uv and pip:
        # A venv comes with these, whatever installs the rest.
        others = [each for name, each in installed.items() if name not in ("pip", "setuptools")]
        by = Counter((each.raw.read_text("INSTALLER") or "").strip() for each in others)
        return pip if by["pip"] > by["uv"] else uv
    if found := uv or pip:
        return found
    raise InstallError(
        f"the other commit needs other packages, and there is neither uv on PATH nor pip "
        f"{_OLDEST_PIP} or newer in this environment to install them: "
        f"{sys.executable} -m ensurepip --upgrade, or install uv; or {BY_HAND}"
    )


def _uv(environ: Mapping[str, str]) -> Installer | None:
    beside = str(Path(sys.executable).parent)
    program = shutil.which("uv", path=os.pathsep.join([environ.get("PATH", ""), beside]))
    if program is None:
        return None
    try:  # a version manager's stand-in is there, but only says that uv is not
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Installer("uv", (program,)) if done.returncode == 0 else None


def _pip(installed: Installed) -> Installer | None:
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        return None
    if "pip" in installed and not holds(installed["pip"].version, f">={_OLDEST_PIP}"):
        return None
    # By its path, so that no module of the folder it runs in is taken for one of Python's.
    return Installer("pip", (sys.executable, "-I", str(Path(spec.origin).parent)))
