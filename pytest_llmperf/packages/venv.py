"""Virtual environments of this Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pytest_llmperf.packages.commands import clean_environment, run_logged
from pytest_llmperf.packages.errors import InstallError
from pytest_llmperf.packages.installed import site_folders

_ASK = "import sysconfig; print(sysconfig.get_path('purelib'))"
_NO_VENV = (
    "a Python without the venv module cannot make environments: install it (Debian, Ubuntu: "
    "python3-venv), or run the session with another Python"
)


def interpreter(folder: Path) -> Path:
    """Return the path of a venv's interpreter."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path, log: Path, *, sees_base: bool) -> Path:
    """Make a venv of this Python without pip, which works on it from outside.

    Returns its folder of packages.

    Args:
        folder: to make.
        log: the file for what that prints.
        sees_base: whether the packages of the Python it is made of count in it.

    Raises:
        InstallError: this Python cannot.
    """
    options = ["--system-site-packages"] if sees_base else []
    run_logged(
        [sys.executable, "-I", "-m", "venv", "--without-pip", *options, str(folder)],
        log,
        f"making an environment in {folder}",
        cwd=log.parent,
        environ=clean_environment(os.environ),
        advice=_NO_VENV,
    )
    done = subprocess.run(
        [str(interpreter(folder)), "-I", "-c", _ASK],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise InstallError(f"{folder} does not run: {done.stderr.strip()}; {_NO_VENV}")
    return Path(done.stdout.strip())


def seen_base() -> list[Path]:
    """Return the folders of packages that an environment sees rather than copies.

    A venv that sees the packages of the Python it is made of begets one that does,
    too. Conda's packages find their libraries from where they lie, and so stay there.
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
