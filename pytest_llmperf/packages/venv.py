"""Makes virtual environments of this Python, and copies packages into them."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_llmperf.packages.installed import Distribution, Installed, path_lines, site_folders
from pytest_llmperf.packages.installers import clean_environment, run_logged

_NO_VENV = (
    "if this Python lacks the venv module, which creates environments, install it (Debian, "
    "Ubuntu: python3-venv), or run the session with another Python"
)


def interpreter(folder: Path) -> Path:
    """Return the path of a venv's interpreter."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path, log: Path, *, sees_base: bool = False, pip: bool = False) -> Path:
    """Make a venv of this Python, and return its folder of packages.

    It has no pip unless asked for (installers run from outside), and sees the packages of
    its base Python only if asked for.

    Raises:
        InstallError: this Python cannot make one.
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

    From a venv that sees the packages of its base Python, another such venv is made. Conda's
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


#: Files of this size are linked, not copied: libraries of gigabytes would fill the disk, and
#: an installer replaces a file rather than write into it. Smaller ones, which people edit to
#: look for a fault, are copied.
_LINKED_BYTES = 1 << 20
#: Metadata that identifies a distribution; without RECORD no installer tries to remove it.
_DESCRIPTION = ("METADATA", "direct_url.json", "entry_points.txt", "top_level.txt")


def copy_packages(folders: Sequence[Path], site: Path, area: Path) -> None:
    """Copy folders of packages into one, without bytecode; the first wins, as in imports.

    Paths into ``area``, the project's repository, that .pth files add are left out: those
    modules come from a tree.

    Raises:
        OSError: as the system reports it.
    """

    def ignored(top: str, names: list[str]) -> set[str]:
        # pip works from outside the environment, and has many files.
        pips = {name for name in names if name.partition("-")[0] == "pip"}
        return {"__pycache__", *(pips if top in map(str, folders) else ())}

    for folder in reversed(folders):
        shadowed, shadowing = Installed([site]), Installed([folder])
        for name in shadowed.keys() & shadowing.keys():
            remove(shadowed[name])
        shutil.copytree(folder, site, ignore=ignored, copy_function=_copy_file, dirs_exist_ok=True)
        for path in folder.glob("*.pth"):
            inside = {line for line in path_lines(path) if _is_below(folder / line, area, folder)}
            if inside:
                text = path.read_text(encoding="utf-8", errors="surrogateescape")
                kept = [f"{line}\n" for line in text.splitlines() if line.strip() not in inside]
                (site / path.name).write_text("".join(kept), "utf-8", errors="surrogateescape")


def copy_distribution(distribution: Distribution, site: Path) -> None:
    """Copy the files of one distribution into another environment's folder of packages.

    Raises:
        OSError: as the system reports it.
    """
    for source in _files(distribution):
        if source.is_relative_to(distribution.folder):
            target = site / source.relative_to(distribution.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            _copy_file(str(source), str(target))


def write_metadata(distribution: Distribution, site: Path) -> None:
    """Write only a distribution's metadata, for ``importlib.metadata`` and installers.

    A distribution in ``site`` itself is stripped to its metadata.

    Raises:
        OSError: as the system reports it.
    """
    texts = {file: distribution.raw.read_text(file) for file in _DESCRIPTION}
    texts["METADATA"] = texts["METADATA"] or distribution.raw.read_text("PKG-INFO")
    if distribution.folder == site:
        remove(distribution)
    name = distribution.name.replace("-", "_")
    folder = site / f"{name}-{distribution.version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        if text is not None:
            (folder / file).write_text(text, encoding="utf-8", errors="surrogateescape")


def remove(distribution: Distribution) -> None:
    """Delete a distribution's files from its environment, and folders left empty.

    Raises:
        OSError: as the system reports it.
    """
    folders = set()
    for path in list(_files(distribution)):
        if path.is_relative_to(distribution.folder):
            path.unlink(missing_ok=True)
            folders.add(path.parent)
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        empty = folder
        while empty != distribution.folder and empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
            empty = empty.parent


def _files(distribution: Distribution) -> Iterator[Path]:
    """Yield the existing files of a distribution that its record names."""
    for file in distribution.raw.files or ():
        path = Path(os.path.normpath(str(distribution.raw.locate_file(file))))
        if path.is_file():
            yield path


def _is_below(path: Path, area: Path, folder: Path) -> bool:
    """Whether a path lies in ``area``, but not in a folder of packages inside it."""
    real = path.resolve()
    return real.is_relative_to(area) and not real.is_relative_to(folder.resolve())


def _copy_file(source: str, target: str) -> None:
    # Some installers place links to their own store.
    real = Path(source).resolve()
    if real.stat().st_size >= _LINKED_BYTES:
        with suppress(OSError):  # another file system, or one without links
            Path(target).unlink(missing_ok=True)
            os.link(real, target)
            return
    shutil.copy2(real, target)
