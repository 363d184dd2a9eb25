"""Finds the stored sessions that an argument names: a path, or else a commit's baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_llmperf.compare.stored_side import (
    CompareError,
    StoredSide,
    side_of_commit,
    side_of_path,
)
from pytest_llmperf.config.project import FILE_NAME

if TYPE_CHECKING:
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.repository.git import Repository
    from pytest_llmperf.repository.revisions import Revision

#: Says that a name stands for a commit, whatever lies in the current folder.
FORCED = "rev:"
_DEFAULT = "perf_baselines"


class SideSources:
    """Finds the stored sessions that an argument names.

    Args:
        project: the one around the current folder; a commit's ``config.yaml`` is looked for in
            the same places.
        baselines: the folder of the baselines in the work tree.
        fixed: the user named that folder: it is the same one in every commit.
    """

    def __init__(self, project: ProjectFolders, baselines: Path, fixed: bool) -> None:
        self._project = project
        self._started = project.started
        self._baselines = baselines
        self._fixed = fixed
        self._found: Repository | None = None

    def side(self, argument: str) -> StoredSide:
        """Return the stored sessions that an argument names.

        Raises:
            CompareError: it names nothing, or nothing to compare.
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

    def _commit(self, name: str) -> StoredSide:
        from pytest_llmperf.repository.revisions import RevisionError, resolve

        repository = self._repository()
        if repository is None:
            raise CompareError(
                f"{name!r} is no file or folder, and {self._started} lies in no git repository\n"
                "  name a file, a folder of baselines, or, in a repository, a commit"
            )
        try:
            revision = resolve(repository, name)
        except RevisionError as error:
            raise CompareError(
                f"{name!r} is no file or folder here, nor a commit: {error}"
            ) from None
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
            self._found = Repository.around(self._started)
        return self._found

    def _folder(self, repository: Repository, revision: Revision) -> PurePosixPath:
        """Return where a commit holds its baselines, from the repository's top.

        That is where its own configuration says, or else where they lie today.

        Raises:
            CompareError: that lies outside the repository.
        """
        if not self._fixed:
            configured = _below(repository, _configured(repository, revision, self._project))
            if configured is not None and repository.files(revision.commit, str(configured)):
                return configured
        folder = _below(repository, self._started / self._baselines)
        if folder is None:
            raise CompareError(
                f"{self._started / self._baselines} lies outside the repository {repository.top}, "
                "so no commit holds it\n"
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


def _configured(repository: Repository, revision: Revision, project: ProjectFolders) -> Path:
    """Return the folder of the baselines as a commit's configuration has it, or the default one."""
    for folder in project.searched:
        path = _below(repository, folder / FILE_NAME)
        blob = repository.files(revision.commit, str(path)).get(str(path)) if path else None
        if blob is not None:
            return folder / _baselines(next(repository.blobs([blob])))
    return project.root / _DEFAULT


def _baselines(content: bytes) -> str:
    """Return ``perf.baselines`` of a configuration; the default where it can't be read."""
    from pytest_llmperf.config.yaml_file import parse

    perf = parse(content).get("perf")
    found = perf.get("baselines") if isinstance(perf, dict) else None
    return found if isinstance(found, str) and found else _DEFAULT


def _exists(argument: str) -> bool:
    try:
        return Path(argument).exists() or Path(argument).is_symlink()
    except (OSError, ValueError):  # too long for a name, or none at all
        return False
