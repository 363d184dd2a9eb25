"""Takes installed distributions over into another environment, file by file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.packages.editable import path_lines
from pytest_llmperf.packages.installed import Distribution, Installed

#: Files of this size are linked, not copied: libraries of gigabytes would fill the disk, and
#: an installer replaces a file rather than write into it. Smaller ones, which people edit to
#: look for a fault, are copied.
_LINKED_BYTES = 1 << 20
#: What says who a distribution is; without RECORD no installer thinks it could remove it.
_DESCRIPTION = ("METADATA", "entry_points.txt", "top_level.txt")


@dataclass(frozen=True)
class Place:
    """The folders of one environment.

    Attributes:
        prefix: its top.
        purelib: its site-packages.
        platlib: its site-packages for compiled packages, often the same.
        scripts: its folder of programs.
    """

    prefix: Path
    purelib: Path
    platlib: Path
    scripts: Path

    def installed(self) -> Installed:
        """Return what is installed there."""
        return Installed(dict.fromkeys((self.purelib, self.platlib)))

    def to_json(self) -> dict[str, str]:
        """Return it as JSON."""
        return {name: str(path) for name, path in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Any) -> Place | None:
        """Read what ``to_json`` wrote; None if it is something else."""
        try:
            return cls(**{name: Path(path) for name, path in data.items()})
        except (AttributeError, TypeError):
            return None


def copy(distribution: Distribution, here: Place, there: Place) -> bool:
    """Copy a distribution's files, programs and bytecode left out.

    Returns:
        False if nothing says which files are its own; then nothing is copied.

    Raises:
        OSError: as the system reports it.
    """
    files = list(_files(distribution))
    if not files:
        return False
    for source in files:
        target = _target(source, distribution, here, there)
        if target is not None:
            _copy_file(source, target)
    return True


def copy_paths(
    folders: list[Path], installed: Iterable[Distribution], area: Path, there: Place
) -> None:
    """Copy the lines of .pth files of no distribution: paths that lie outside of ``area``.

    A user wrote them, or ``setup.py develop``; what lies in ``area`` comes from a tree.

    Raises:
        OSError: as the system reports it.
    """
    files = (file for each in installed for file in each.raw.files or ())
    recorded = {file.name for file in files if file.suffix == ".pth"}
    for folder in folders:
        for path in sorted(folder.glob("*.pth")):
            if path.name in recorded:
                continue
            lines = [(folder / line).resolve() for line in path_lines(path)]
            kept = [str(line) for line in lines if not line.is_relative_to(area)]
            kept = [line for line in kept if not Path(line).is_relative_to(folder.resolve())]
            if kept:
                text = "".join(f"{line}\n" for line in kept)
                (there.purelib / path.name).write_text(text, errors="surrogateescape")


def describe(distribution: Distribution, there: Place) -> None:
    """Copy only what says who it is, for ``importlib.metadata``: its modules come from a tree.

    Raises:
        OSError: as the system reports it.
    """
    name = distribution.name.replace("-", "_")
    folder = there.purelib / f"{name}-{distribution.version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    for file in _DESCRIPTION:
        text = distribution.raw.read_text(file)
        if text is None and file == "METADATA":
            text = distribution.raw.read_text("PKG-INFO")
        if text is not None:
            (folder / file).write_text(text, encoding="utf-8", errors="surrogateescape")


def remove(distribution: Distribution, *, keep_description: bool = False) -> None:
    """Delete a distribution's files from its environment, and folders that are empty then.

    Raises:
        OSError: as the system reports it.
    """
    folders = set()
    info = distribution.info
    for file in distribution.raw.files or ():
        path = Path(os.path.normpath(str(distribution.raw.locate_file(file))))
        described = info is not None and path.parent == info and path.name in _DESCRIPTION
        if path.is_relative_to(distribution.folder) and not (keep_description and described):
            path.unlink(missing_ok=True)
            folders.add(path.parent)
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        empty = folder
        while empty != distribution.folder and _is_empty(empty):
            empty.rmdir()
            empty = empty.parent


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _files(distribution: Distribution) -> Iterator[Path]:
    """Yield the existing files of a distribution, by its record or else by its module names."""
    if distribution.raw.read_text("RECORD") is not None:
        for file in distribution.raw.files or ():
            path = Path(os.path.normpath(str(distribution.raw.locate_file(file))))
            if "__pycache__" not in path.parts and path.is_file():
                yield path
        return
    # Packages of an operating system come without a record.
    names = (distribution.raw.read_text("top_level.txt") or "").split()
    tops = [distribution.folder / name for name in names]
    tops += [top.with_name(f"{top.name}.py") for top in tops]
    found = [file for top in tops for file in _below(top)]
    if found and distribution.info is not None:
        yield from found
        yield from _below(distribution.info)


def _below(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
    elif top.is_dir():
        for path in top.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _target(source: Path, distribution: Distribution, here: Place, there: Place) -> Path | None:
    """Return where a file belongs in the other environment; None if it is not to be copied."""
    if source.is_relative_to(distribution.folder):
        compiled = distribution.folder == here.platlib != here.purelib
        site = there.platlib if compiled else there.purelib
        return site / source.relative_to(distribution.folder)
    if source.is_relative_to(here.prefix) and not source.is_relative_to(here.scripts):
        return there.prefix / source.relative_to(here.prefix)
    return None


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    # Some installers place links to a store of their own.
    real = source.resolve()
    if real.stat().st_size >= _LINKED_BYTES:
        try:
            os.link(real, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copy2(real, target)
