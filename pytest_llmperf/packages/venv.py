"""Virtual environments of this Python."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from pytest_llmperf.packages.commands import clean_environment, run_logged
from pytest_llmperf.packages.installed import site_folders

_NO_VENV = (
    "a Python without the venv module cannot make environments: install it (Debian, Ubuntu: "
    "python3-venv), or run the session with another Python"
)


def interpreter(folder: Path) -> Path:
    """Return the path of a venv's interpreter."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path, log: Path, *, sees_base: bool = False, pip: bool = False) -> Path:
    """Make a venv of this Python, and return its folder of packages.

    Args:
        folder: to make.
        log: the file for its output.
        sees_base: whether it sees the packages of its base Python.
        pip: whether to install pip in it; installers run from outside.

    Raises:
        InstallError: this Python cannot.
    """
    options = ["--system-site-packages"] if sees_base else []
    options += [] if pip else ["--without-pip"]
    run_logged(
        [sys.executable, "-I", "-m", "venv", *options, str(folder)],
        log,
        f"making an environment in {folder}",
        cwd=log.parent,
        environ=clean_environment(os.environ),
        advice=_NO_VENV,
    )
    # The venv module's layout, whatever layout this Python prefers.
    layout, top = ("nt" if os.name == "nt" else "posix_prefix"), str(folder)
    return Path(sysconfig.get_path("purelib", layout, {"base": top, "platbase": top}))


def visible_base_folders() -> list[Path]:
    """Return the folders of packages that an environment sees rather than copies.

    From a venv that sees the packages of its base Python another such is made. Conda's
    packages find their libraries relative to themselves, so they are not copied.
    """
    folders = site_folders()
    if sys.prefix == sys.base_prefix:
        return folders if Path(sys.prefix, "conda-meta").is_dir() else []
    try:
        text = Path(sys.prefix, "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if "include-system-site-packages=true" not in text.lower().replace(" ", ""):
        return []
    return [folder for folder in folders if not folder.is_relative_to(sys.prefix)]
