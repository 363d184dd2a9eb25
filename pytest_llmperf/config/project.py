"""Finds a project's configuration, in the same way for pytest and the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.system_path import shown_path

FILE_NAME = "config.yaml"
#: Files that pytest takes its settings from, in its order -> pattern that must begin a line.
_SETTINGS = {
    "pytest.toml": None,
    ".pytest.toml": None,
    "pytest.ini": None,
    ".pytest.ini": None,
    "pyproject.toml": r"[ \t]*\[\s*tool\s*\.\s*pytest\s*[.\]]",
    "tox.ini": r"\[pytest\]",
    "setup.cfg": r"\[tool:pytest\]",
}
_OURS = r"(llm|perf)\s*:"
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ProjectFolders:
    """The folders in which ``config.yaml`` is searched.

    Attributes:
        root: pytest's root folder; without a configuration file, relative paths start here.
        settings: the folder of the file that pytest takes its settings from, or ``root``.
        started: the folder that pytest, or a command, was started in.
    """

    root: Path
    settings: Path
    started: Path

    @classmethod
    def at(cls, folder: Path) -> ProjectFolders:
        """Return a project with a single folder."""
        return cls(folder, folder, folder)

    @classmethod
    def around(cls, started: Path, tests: Sequence[str] = ()) -> ProjectFolders:
        """Return the project that pytest finds when started in a folder.

        Args:
            started: the folder.
            tests: files, folders or node ids, as given to pytest.
        """
        paths = [started / test.partition("::")[0] for test in tests]
        existing = [path for path in paths if path.exists()]
        below = Path(os.path.commonpath(existing)) if existing else started
        folders = [folder for folder in (below, *below.parents) if folder.is_dir()]
        settings = _first(folders, _SETTINGS)
        # As a last resort pytest takes a pyproject.toml that does not mention it.
        settings = settings or _first(folders, {"pyproject.toml": None})
        if settings is not None:
            return cls(settings, settings, started)
        root = _first(folders, {"setup.py": None}) or Path(os.path.commonpath([below, started]))
        return cls(root, root, started)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The project's own folders, in the order in which they are searched."""
        return tuple(dict.fromkeys((self.settings, self.root, self.started)))

    @property
    def searched(self) -> tuple[Path, ...]:
        """All folders that are searched: ``folders``, and those above the root folder."""
        return tuple(dict.fromkeys((*self.folders, *_above(self.root))))

    def config_file(self) -> Path | None:
        """Return the configuration file to use if none is named, or None.

        It is the first of: beside pytest's settings file, in the root folder, in the folder
        where pytest was started, and in the nearest folder above the root folder in the same
        repository (there only a file with a section of ours counts).
        """
        for folder in self.searched:
            file = folder / FILE_NAME
            if file.exists() if folder in self.folders else _holds(file, _OURS):
                return file
        return None

    @property
    def is_configured(self) -> bool:
        """Whether a configuration file of the project has a section of ours."""
        return any(_holds(folder / FILE_NAME, _OURS) for folder in self.searched)

    def describe(self, file: Path | None) -> str:
        """Return which configuration file is read, or where none was found."""
        if file is None:
            return f"no {FILE_NAME} in {' or '.join(map(shown_path, self.folders))}: defaults"
        inside = file.is_relative_to(self.started)
        return shown_path(file.relative_to(self.started) if inside else file)


def _first(folders: Sequence[Path], names: dict[str, str | None]) -> Path | None:
    """Return the first folder with a file of one of these names and contents."""
    for folder in folders:
        if any(_holds(folder / name, content) for name, content in names.items()):
            return folder
    return None


def _above(folder: Path) -> Iterator[Path]:
    """Yield the folders above a folder, up to its repository's top; none outside a repository."""
    whole = [folder, *folder.parents]
    top = next((n for n, candidate in enumerate(whole) if (candidate / ".git").exists()), 0)
    yield from whole[1 : top + 1]


def _holds(file: Path, content: str | None) -> bool:
    """Whether the file exists and, if ``content`` is given, has a line with that beginning."""
    try:
        if not file.is_file():
            return False
        if content is None:
            return True
        with file.open("rb") as stream:
            text = stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return re.search(f"^{content}", text, re.MULTILINE) is not None
