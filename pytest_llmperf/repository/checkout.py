"""Checks out a commit beside the user's work tree, without writing to the user's repository."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType

from pytest_llmperf.repository.command import GitError, GitKilledError
from pytest_llmperf.repository.folders import OwnFolder, cannot_write, sweep
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.helper import Helper, git_in
from pytest_llmperf.repository.remotes import main_remote
from pytest_llmperf.repository.submodules import fill_submodules

FOLDER = "worktrees"
_DIGITS = 16
_VENV = "pyvenv.cfg"


@dataclass
class Checkout:
    """A commit's files in a folder of this run; also a context manager that removes it.

    Attributes:
        top: the top of the work tree, named as the user's.
        commit: the full hash.
        empty_submodules: submodules that the user's clone does not have; empty folders.
    """

    top: Path
    commit: str
    empty_submodules: tuple[str, ...] = ()
    _folder: OwnFolder | None = field(default=None, repr=False)

    def close(self) -> None:
        """Remove the work tree and what belongs to it; does nothing the second time."""
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def __enter__(self) -> Checkout:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def check_out(repository: Repository, commit: str, cache: Path) -> Checkout:
    """Check ``commit`` out into a new folder below ``cache``, and return it.

    The work tree belongs to a private repository that borrows the user's objects
    and copies the refs, so the user's repository is only read, even if this
    process is killed. Models (``*.gguf``) that git does not know are linked to;
    submodules are filled from the user's clone where it has them. Leftovers of
    dead runs are removed first.

    Raises:
        GitError: some of the commit's files are missing, or the cache can't be written to.
    """
    sweep(cache / FOLDER)
    folder = OwnFolder(cache / FOLDER / _key(repository))
    try:
        return _fill(repository, commit, folder)
    except OSError as error:
        folder.remove()
        raise cannot_write(folder.path, error) from error
    except BaseException:
        folder.remove()
        raise


def export(repository: Repository, commit: str, folder: str, to: Path) -> list[Path]:
    """Write a commit's regular files below ``folder`` into ``to``, read from git's objects.

    Returns the paths written, at the same places below ``to`` as they have below
    ``folder``. No filter and no line ending conversion is applied.

    Raises:
        GitError: an object is missing, or a file can't be written.
    """
    files = repository.files(commit, folder)
    base = PurePosixPath(folder)
    written = []
    for path, content in zip(files, repository.blobs(list(files.values())), strict=True):
        below = PurePosixPath(path)
        if ".." in below.parts:
            continue  # git itself writes no such tree
        target = to / (below.relative_to(base) if below != base else below.name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        except OSError as error:
            raise GitError(
                f"can't write {path} of {commit} to {target}: {error.strerror or error}"
            ) from error
        written.append(target)
    return written


def _fill(repository: Repository, commit: str, folder: OwnFolder) -> Checkout:
    # Named as the user's: a package may be named after its folder.
    tree = folder.path / "tree" / (repository.top.name or "top")
    tree.parent.mkdir()
    helper = Helper.create(folder.path / "repo.git", repository.top)
    try:
        helper.check_out(commit, tree)
    except GitKilledError:
        raise
    except GitError as error:
        raise _explained(repository, commit, folder.path, error) from error
    helpers = folder.path / "modules"
    helpers.mkdir()
    empty = fill_submodules(tree, repository.top, helpers)
    _link_models(repository, tree)
    # Links must not show up as changes of the commit.
    with (helper.folder / "info" / "exclude").open("ab") as exclude:
        exclude.write(b"\n*.[gG][gG][uU][fF]\n")
    return Checkout(tree, commit, empty, folder)


def _explained(repository: Repository, commit: str, place: Path, error: GitError) -> GitError:
    """Add to a failed checkout's error what would fix it."""
    text = f"can't check out {commit} of {repository.top} into {place}: {error}"
    if promisor := git_in(
        repository.top, ["config", "--name-only", "--get-regexp", r"remote\..*\.promisor"]
    ):
        remote = promisor.splitlines()[0].removeprefix("remote.").removesuffix(".promisor")
        return GitError(
            f"{text}; this is a partial clone, and not all files of that commit are here: "
            f"fetch them with git fetch --refetch --no-filter {remote}"
        )
    if "smudge filter lfs failed" in str(error):
        remote = main_remote(repository) or "REMOTE"
        return GitError(
            f"{text}; large files of that commit are not here: git lfs fetch {remote} {commit}"
        )
    if "No space left" in str(error) or "unable to write" in str(error):
        return GitError(
            f"{text}; free space there, or set LLMPERF_CACHE_DIR to a folder on another disk"
        )
    return GitError(text)


def _link_models(repository: Repository, tree: Path) -> None:
    """Link the user's model files that git does not know at the same places in ``tree``."""
    listed = git_in(repository.top, ["ls-files", "-z", "--others", "--", ":(top,icase)*.gguf"])
    for name in (listed or "").split("\0"):
        path = PurePosixPath(name)
        if not name or not _is_own(repository.top, path):
            continue
        # The name may be taken in this commit, or the file system may lack links.
        with suppress(OSError, NotImplementedError):
            if (parent := _make_folders(tree, path)) is not None:
                (parent / path.name).symlink_to(repository.top / path)


def _is_own(top: Path, path: PurePosixPath) -> bool:
    """Whether a file belongs to the project, not to an environment in its folder."""
    return not any((top / folder / _VENV).is_file() for folder in path.parents)


def _make_folders(tree: Path, path: PurePosixPath) -> Path | None:
    """Make the parent folders of ``path``; None if a link in the commit leads elsewhere."""
    folder = tree
    for part in path.parts[:-1]:
        folder = folder / part
        if folder.is_symlink():
            return None
        folder.mkdir(exist_ok=True)
    return folder


def _key(repository: Repository) -> str:
    return hashlib.sha256(os.fsencode(repository.common_dir)).hexdigest()[:_DIGITS]
