"""From an argument of ``llmperf compare`` to a side: a path, or else a commit's baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.sides import Side, SideError, side_of_commit, side_of_path

if TYPE_CHECKING:
    from pytest_llmperf.repository.git import Repository
    from pytest_llmperf.repository.revisions import Revision

#: Says that a name stands for a commit, whatever lies in the current folder.
FORCED = "rev:"
_CONFIG = "config.yaml"
_DEFAULT = "perf_baselines"


class Sources:
    """Finds what an argument stands for.

    Args:
        here: the current folder; a commit's ``config.yaml`` is looked for at its place.
        baselines: the folder of the baselines here.
        fixed: the user named that folder, here and now: it is the same in every commit.
    """

    def __init__(self, here: Path, baselines: Path, fixed: bool) -> None:
        self._here = here
        self._baselines = baselines
        self._fixed = fixed
        self._found: Repository | None = None

    def side(self, argument: str) -> Side:
        """Return the side that an argument names.

        Raises:
            SideError: it names nothing, or nothing to compare.
            BaselineError: a stored file cannot be used.
            GitError: git does not know it, or cannot read it.
        """
        if argument.startswith(FORCED):
            return self._commit(argument.removeprefix(FORCED))
        if _exists(argument):
            side = side_of_path(Path(argument))
            if self._is_revision(argument):
                note = (
                    f"{argument} is a path here and a revision, too; the path was taken "
                    f"({FORCED}{argument} takes the other)"
                )
                return replace(side, notes=(*side.notes, note))
            return side
        return self._commit(argument)

    def _commit(self, name: str) -> Side:
        from pytest_llmperf.repository.revisions import RevisionError, resolve

        repository = self._repository()
        if repository is None:
            raise SideError(
                f"{name!r} is no file or folder, and {self._here} lies in no git repository\n"
                "  name a file, a folder of baselines, or, in a repository, a commit"
            )
        try:
            revision = resolve(repository, name)
        except RevisionError as error:
            raise SideError(f"{name!r} is no file or folder here, nor a commit: {error}") from None
        return side_of_commit(repository, revision, self._folder(repository, revision))

    def _is_revision(self, name: str) -> bool:
        from pytest_llmperf.repository.git import GitError

        try:
            repository = self._repository()
            return repository is not None and repository.commit(name) is not None
        except GitError:
            return False

    def _repository(self) -> Repository | None:
        from pytest_llmperf.repository.git import Repository

        if self._found is None:
            self._found = Repository.around(self._here)
        return self._found

    def _folder(self, repository: Repository, revision: Revision) -> PurePosixPath:
        """Return where a commit holds its baselines, from the repository's top.

        That is where its own configuration says, or else where they lie today.

        Raises:
            SideError: that lies outside the repository.
        """
        if not self._fixed:
            there = _below(repository, self._here / _configured(repository, revision, self._here))
            if there is not None and repository.files(revision.commit, str(there)):
                return there
        folder = _below(repository, self._here / self._baselines)
        if folder is None:
            raise SideError(
                f"{self._here / self._baselines} lies outside the repository {repository.top}, so "
                "no commit holds it\n"
                "  name the folder of the baselines in the repository: --dir FOLDER"
            )
        return folder


def _below(repository: Repository, folder: Path) -> PurePosixPath | None:
    """Return a folder's path from the repository's top; None where it lies outside."""
    # The folder itself may be gone by now, or have become a link.
    whole = folder.resolve() if folder.name == ".." else folder.parent.resolve() / folder.name
    if not whole.is_relative_to(repository.top):
        return None
    return PurePosixPath(whole.relative_to(repository.top).as_posix())


def _configured(repository: Repository, revision: Revision, here: Path) -> str:
    """Return perf.baselines as a commit's configuration has it, the default where it has none."""
    path = _below(repository, here / _CONFIG)
    blob = repository.files(revision.commit, str(path)).get(str(path)) if path else None
    perf = _perf(next(repository.blobs([blob]))) if blob is not None else None
    found = perf.get("baselines") if isinstance(perf, dict) else None
    return found if isinstance(found, str) and found else _DEFAULT


def _perf(content: bytes) -> Any:
    """Return the section perf of a configuration; None of what this version cannot read."""
    import yaml

    try:
        document = yaml.safe_load(content.decode())
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return None
    return document.get("perf") if isinstance(document, dict) else None


def _exists(argument: str) -> bool:
    try:
        return Path(argument).exists() or Path(argument).is_symlink()
    except (OSError, ValueError):  # too long for a name, or none at all
        return False
