"""Chooses the installer that resolves and installs packages: uv, or this environment's pip."""

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

from pytest_llmperf.packages.commands import clean_environment
from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.installed import Installed, holds

#: The first pip that can work on another environment (``--python``).
_OLDEST_PIP = "22.3"


@dataclass(frozen=True)
class Installer:
    """A program that works on an environment given by its interpreter.

    Attributes:
        name: ``uv`` or ``pip``.
        program: the words that start it.
    """

    name: str
    program: tuple[str, ...]

    def install(self, python: Path, words: Sequence[str], *, unbuilt: str = "") -> list[str]:
        """Return the command that installs packages in an environment.

        Args:
            python: of the environment.
            words: what to install.
            unbuilt: a package to be built from source, whatever wheel a cache holds.
        """
        if self.name == "uv":
            plain = ["--no-progress", "--color", "never", *(["--no-cache"] if unbuilt else [])]
            start = [*self.program, "pip", "install", *plain, "--python", str(python)]
        else:
            plain = ["--progress-bar", "off", *(["--no-cache-dir"] if unbuilt else [])]
            start = [*self.program, "--python", str(python), "install", *plain]
        return [*start, *(["--no-binary", unbuilt] if unbuilt else []), *words]


def find_installer(
    installed: Installed, environ: Mapping[str, str], *, sees_base: bool
) -> Installer:
    """Return the installer to use.

    If both are available: uv, unless pip installed most of this environment; the package sources
    are then configured for pip, and uv does not read that.

    Args:
        installed: this environment's distributions.
        environ: its variables.
        sees_base: whether packages of the Python below count in the new environment, which
            takes pip: uv does not see them.

    Raises:
        InstallError: there is none.
    """
    uv, pip = _uv(environ), _pip(installed)
    if uv and pip:
        # A venv comes with these, whatever installs the rest.
        others = [each for name, each in installed.items() if name not in ("pip", "setuptools")]
        by = Counter((each.raw.read_text("INSTALLER") or "").strip() for each in others)
        return pip if sees_base or by["pip"] > by["uv"] else uv
    if found := uv or pip:
        return found
    raise InstallError(
        f"the other commit needs other packages, and there is neither uv on PATH nor pip "
        f"{_OLDEST_PIP} or newer in this environment to install them: "
        f"{sys.executable} -m ensurepip --upgrade, or install uv; or {BY_HAND}"
    )


def read_lock(tree: Path, words: Sequence[str]) -> list[str]:
    """Return a tree's uv.lock as lines of a requirements file.

    Args:
        tree: the folder of the lock.
        words: which extras and groups count: ``--extra``, ``dev``.

    Raises:
        InstallError: it cannot be read.
    """
    uv = _uv(os.environ)
    if uv is None:
        raise InstallError(
            f"uv.lock is not the same in both commits, and there is no uv on PATH to read it: "
            f"install uv; or {BY_HAND}"
        )
    plain = ("--quiet", "--frozen", "--no-hashes", "--no-emit-workspace", "--no-header")
    done = subprocess.run(
        [
            *(*uv.program, "export", *plain, "--no-annotate", "--no-default-groups"),
            *("--color", "never", "--python", sys.executable, *words),
        ],
        cwd=tree,
        env=clean_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        error = done.stderr.strip()
        raise InstallError(f"{tree / 'uv.lock'}: uv cannot read it: {error}; {BY_HAND}")
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def _uv(environ: Mapping[str, str]) -> Installer | None:
    beside = str(Path(sys.executable).parent)
    program = shutil.which("uv", path=os.pathsep.join([environ.get("PATH", ""), beside]))
    module = importlib.util.find_spec("uv")
    words = (program,) if program else (sys.executable, "-m", "uv") if module else ()
    return Installer("uv", words) if words else None


def _pip(installed: Installed) -> Installer | None:
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        return None
    if "pip" in installed and not holds(installed["pip"].version, f">={_OLDEST_PIP}"):
        return None
    # By its path, so that no module of the working folder shadows one of Python's.
    return Installer("pip", (sys.executable, "-I", str(Path(spec.origin).parent)))
