"""The stored sessions of one side of a comparison: found by an argument, and read.

An argument is a path (a record, a report, a folder of baselines), or else a commit, whose
baselines are read from git's objects.
"""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.baselines.store import BaselineStore, Shelf, StoredRecord
from pytest_llmperf.compare.report_file import ReportedTest, is_report, read_report
from pytest_llmperf.config.project import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.repository.git import Repository
    from pytest_llmperf.repository.revisions import Revision
    from pytest_llmperf.session.recorded import UnmeasuredTest

#: Prefix of a name that stands for a commit, even if a file or folder has that name.
FORCED = "rev:"
_DEFAULT = "perf_baselines"
_RECORD = "record a session: pytest -m perf --llmperf-record"

_FILE_KINDS = "a recorded session (perf_baselines/<machine>/*.json) or a report of --llmperf-json"


class CompareError(Exception):
    """Stored sessions that can't be compared; str() is the complete message."""


@dataclass(frozen=True)
class StoredSide:
    """The stored sessions that one argument of a comparison names.

    Attributes:
        argument: what the user typed.
        name: the same for display; a commit with its subject.
        shelves: by the machine's key; each holds at least one session.
        commit: the full hash, for a commit's store.
        is_report: the only session comes from a report, which only names machine and model.
        reported: the report's tests by node id, with its session's own verdicts.
        unmeasured: the report's tests that ran but were not measured.
        notes: notes on how the argument was read, for the user.
    """

    argument: str
    name: str
    shelves: Mapping[str, Shelf]
    commit: str | None = None
    is_report: bool = False
    reported: Mapping[str, ReportedTest] = field(default_factory=dict)
    unmeasured: tuple[UnmeasuredTest, ...] = ()
    notes: tuple[str, ...] = ()


class SideSources:
    """Finds the stored sessions that an argument names.

    Args:
        project: the project around the current folder; a commit's ``config.yaml`` is looked for
            in the same places.
        baselines: the folder of the baselines in the work tree.
        fixed: whether the user named that folder, so that it is the same in every commit.
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
            GitError: git does not know the commit, or cannot read it.
        """
        if argument.startswith(FORCED):
            return self._commit(argument.removeprefix(FORCED))
        if _exists(argument):
            side = _side_of_path(Path(argument))
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
                f"{name!r} is not a file or folder, and {self._started} is in no git repository\n"
                "  name a file, a folder of baselines, or, in a repository, a commit"
            )
        try:
            revision = resolve(repository, name)
        except RevisionError as error:
            raise CompareError(
                f"{name!r} is neither a file, nor a folder, nor a commit: {error}"
            ) from None
        return _side_of_commit(repository, revision, self._folder(repository, revision))

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
        """Return the folder of a commit's baselines, from the repository's top.

        It is the folder in the commit's own configuration, or else where they lie today.

        Raises:
            CompareError: the folder lies outside the repository.
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
    """Return the folder of baselines that a commit's configuration names, or the default one."""
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
    folder = perf.get("baselines") if isinstance(perf, dict) else None
    return folder if isinstance(folder, str) and folder else _DEFAULT


def _exists(argument: str) -> bool:
    try:
        return Path(argument).exists() or Path(argument).is_symlink()
    except (OSError, ValueError):  # too long for a name, or not a possible name
        return False


def _side_of_path(path: Path) -> StoredSide:
    """Read a record, a report, a store, or one machine's folder of a store.

    Raises:
        CompareError: no session is in it.
        BaselineError: a file cannot be used.
    """
    name = str(path)
    if path.is_dir():
        shelves, notes = _folder(path)
        if not shelves:
            raise CompareError(
                f"{path}: no session is recorded there\n  {_RECORD}; or name another folder"
            )
        return StoredSide(name, name, shelves, notes=notes)
    if not path.is_file():
        raise CompareError(f"{path} is not a file, a folder or a link to one\n  name {_FILE_KINDS}")
    try:
        return _file(path, name)
    except BaselineError as error:
        first, *rest = str(error).splitlines()
        # The fix for a stored baseline, such as deleting it, may be wrong for any other file.
        upgrade = [line.strip() for line in rest if "pip install --upgrade" in line]
        raise CompareError("\n  ".join([first, *(upgrade or [f"name {_FILE_KINDS}"])])) from None


def _file(path: Path, name: str) -> StoredSide:
    if not is_report(path):
        record = read_record(path)
        return StoredSide(name, name, {record.machine.key: Shelf((StoredRecord(path, record),))})
    report = read_report(path)
    stored = StoredRecord(path, report.record)
    return StoredSide(
        name,
        name,
        {report.record.machine.key: Shelf((stored,))},
        is_report=True,
        reported=report.tests,
        unmeasured=report.unmeasured,
    )


def _folder(path: Path) -> tuple[dict[str, Shelf], tuple[str, ...]]:
    try:
        has_records = any(file.suffix == ".json" and file.name[0] != "." for file in path.iterdir())
    except OSError as error:
        raise BaselineError(
            f"{path}: the folder cannot be read: {(error.strerror or str(error)).lower()}\n"
            "  give this user read and search permission on it"
        ) from None
    if has_records:
        return _machine_folder(path)
    if any((path / name).exists() for name in ("config.yaml", "perf_baselines", ".git")):
        inside = shlex.quote(str(path / "perf_baselines"))
        raise CompareError(
            f"{path} is a project's folder and not one of baselines\n"
            f"  name the folder of its baselines, such as {inside}"
        )
    return _store(BaselineStore(path)), ()


def _store(store: BaselineStore) -> dict[str, Shelf]:
    shelves = {key: store.read_shelf(key) for key in store.machines()}
    return {key: shelf for key, shelf in shelves.items() if shelf.records}


def _machine_folder(path: Path) -> tuple[dict[str, Shelf], tuple[str, ...]]:
    """Read the records that lie in the folder itself, whatever the folder is called."""
    whole = path.resolve()
    files = sorted(f for f in path.iterdir() if f.suffix == ".json" and f.name[0] != ".")
    if read_record(files[0]).machine.key == whole.name:
        shelf = BaselineStore(whole.parent).read_shelf(whole.name)
        return {whole.name: _with_root(shelf, whole, path)}, ()
    records = [StoredRecord(file, read_record(file)) for file in files]
    shelves: dict[str, Shelf] = {}
    for stored in sorted(records, key=lambda item: (item.record.recorded, item.path.name)):
        key = stored.record.machine.key
        before = shelves.get(key, Shelf())
        shelves[key] = replace(before, records=(*before.records, stored))
    if not (path / "decisions").is_dir():
        return shelves, ()
    return shelves, (f"{path} is not named after its machine, so its decisions are ignored",)


def _side_of_commit(
    repository: Repository, revision: Revision, folder: PurePosixPath
) -> StoredSide:
    """Read the store that a commit holds in ``folder`` (from the repository's top).

    Nothing is checked out: the files come from git's objects. Their paths are the ones in
    the repository.

    Raises:
        CompareError: the commit holds no session, or files that cannot be used.
        GitError: git cannot read the commit, or there is no room for the files.
    """
    from pytest_llmperf.repository.checkout import export

    with tempfile.TemporaryDirectory(prefix="llmperf-") as name:
        place = Path(name)
        export(repository, revision.commit, str(folder), place)
        try:
            shelves = _store(BaselineStore(place))
        except BaselineError as error:
            raise CompareError(_bad_in_commit(str(error), place, revision, folder)) from None
    if not shelves:
        raise CompareError(
            f"{revision} holds no session in {folder}\n"
            f"  {_RECORD}, and commit it; or name the folder that has them: --dir FOLDER"
        )
    moved = {key: _with_root(shelf, place, Path(folder)) for key, shelf in shelves.items()}
    return StoredSide(revision.name, str(revision), moved, revision.commit)


def _with_root(shelf: Shelf, root: Path, to: Path) -> Shelf:
    """Return a shelf with the paths of its files moved from ``root`` to ``to``."""
    return Shelf(
        tuple(replace(file, path=to / file.path.relative_to(root)) for file in shelf.records),
        tuple(replace(file, path=to / file.path.relative_to(root)) for file in shelf.decisions),
    )


def _bad_in_commit(message: str, place: Path, revision: Revision, folder: PurePosixPath) -> str:
    """Explain what is wrong with a commit's files, without fixes that only work for a file."""
    lines = [line for line in message.splitlines() if line.startswith(str(place))]
    problems = [line.replace(f"{place}/", "").removeprefix(f"{folder}/") for line in lines]
    listed = "\n".join(f"  {line}" for line in problems) or f"  {message}"
    upgrade = [line.strip() for line in message.splitlines() if "pip install --upgrade" in line]
    remedy = upgrade[0] if upgrade else "compare with a commit before or after that mistake"
    return f"{revision} holds baselines in {folder} that cannot be used:\n{listed}\n  {remedy}"
