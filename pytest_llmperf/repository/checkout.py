"""Checks out a commit beside the user's work tree, without writing to the user's repository."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pytest_llmperf.repository.changes import INDEX, gitlinks
from pytest_llmperf.repository.command import GitError, GitKilledError, execute
from pytest_llmperf.repository.folders import OwnFolder, cannot_write, sweep
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.private_repository import PrivateRepository, git_in
from pytest_llmperf.repository.revisions import main_remote

FOLDER = "worktrees"
_DIGITS = 16
_VENV = "pyvenv.cfg"


@dataclass
class Checkout:
    """A commit's files in a folder of this run; also a context manager that removes it.

    Attributes:
        top: the top of the work tree; its folder has the name of the user's.
        commit: the full hash.
        empty_submodules: paths of submodules that the user's clone lacks; left as empty folders.
    """

    top: Path
    commit: str
    empty_submodules: tuple[str, ...] = ()
    _folder: OwnFolder | None = field(default=None, repr=False)

    def close(self) -> None:
        """Remove the work tree and its private repository; do nothing the second time."""
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def __enter__(self) -> Checkout:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_out(repository: Repository, commit: str, cache: Path) -> Checkout:
    """Check ``commit`` out into a new folder below ``cache``, and return the checkout.

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

    Returns the paths written; each lies below ``to`` as it does below ``folder``.
    No filter and no line ending conversion is applied.

    Raises:
        GitError: an object is missing, or a file can't be written.
    """
    files = repository.files(commit, folder)
    base = PurePosixPath(folder)
    written = []
    for path, content in zip(files, repository.blobs(list(files.values())), strict=True):
        below = PurePosixPath(path)
        if ".." in below.parts:
            continue  # git itself never writes such a tree
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
    # The folder has the name of the user's: a package may be named after its folder.
    tree = folder.path / "tree" / (repository.top.name or "top")
    tree.parent.mkdir()
    private = PrivateRepository.create(folder.path / "repo.git", repository.top)
    try:
        private.check_out(commit, tree)
    except GitKilledError:
        raise
    except GitError as error:
        raise _explained(repository, commit, folder.path, error) from error
    modules = folder.path / "modules"
    modules.mkdir()
    empty = _fill_submodules(tree, repository.top, modules)
    _link_models(repository, tree)
    # Links must not show up as changes of the commit.
    with (private.folder / "info" / "exclude").open("ab") as exclude:
        exclude.write(b"\n*.[gG][gG][uU][fF]\n")
    return Checkout(tree, commit, empty, folder)


def _explained(repository: Repository, commit: str, place: Path, error: GitError) -> GitError:
    """Return a failed checkout's error with a fix added."""
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
    """Link the user's model files that git does not know into the same places in ``tree``."""
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


def _fill_submodules(tree: Path, source: Path, modules: Path) -> tuple[str, ...]:
    """Check out the submodules inside the checkout ``tree``; return the paths left empty.

    ``source`` is the user's work tree or, of a submodule, its repository's folder; private
    repositories go into ``modules``. A submodule whose commit the user's clone does not have
    stays an empty folder, as it would in a clone without submodules.
    """
    links = gitlinks(git_in(tree, INDEX) or "")
    if not links:
        return ()
    names = _submodule_names(tree)
    empty: list[str] = []
    for path, wanted in links.items():
        origin = _source_of(source, names.get(path), path, wanted)
        if origin is None or not _is_plain(tree, path):
            empty.append(path)
            continue
        try:
            number = sum(1 for _ in modules.iterdir())
            private = PrivateRepository.create(modules / f"{number}.git", origin)
            private.check_out(wanted, tree / path)
        except GitKilledError:
            raise
        except GitError:
            empty.append(path)
            continue
        inner = _fill_submodules(tree / path, origin, modules)
        empty += [f"{path}/{name}" for name in inner]
    return tuple(empty)


def _submodule_names(tree: Path) -> dict[str, str]:
    """Return path -> name of the submodules in ``.gitmodules``."""
    file = tree / ".gitmodules"
    if not file.is_file() or file.is_symlink():
        return {}
    listed = git_in(
        tree, ["config", "--file", ".gitmodules", "--null", "--get-regexp", r"submodule\..*\.path"]
    )
    names = {}
    for entry in (listed or "").split("\0"):
        key, _, path = entry.partition("\n")
        name = key.removeprefix("submodule.").removesuffix(".path")
        # As in git itself: a name becomes a folder's name, and must not lead out of its parent.
        if name and ".." not in PurePosixPath(name.replace("\\", "/")).parts:
            names[path] = name
    return names


def _source_of(source: Path, name: str | None, path: str, wanted: str) -> Path | None:
    """Return the user's repository of a submodule, if it has the commit."""
    places = []
    if name is not None:
        for kind in (["--git-path", f"modules/{name}"], ["--git-common-dir"]):
            if (output := git_in(source, ["rev-parse", *kind])) is not None:
                place = source / output
                places.append(place if kind[0] == "--git-path" else place / "modules" / name)
    # A submodule that has its repository in its own folder, as very old ones do.
    places.append(source / path / ".git")
    for place in places:
        if not place.is_dir():
            continue
        done = execute([f"--git-dir={place}", "cat-file", "-e", f"{wanted}^{{commit}}"], place)
        if done.returncode == 0:
            return place.resolve()
    return None


def _is_plain(tree: Path, path: str) -> bool:
    """Whether every folder down to ``path`` is a real one inside ``tree``."""
    folder = tree
    for part in PurePosixPath(path).parts:
        folder = folder / part
        if folder.is_symlink() or not folder.is_dir():
            return False
    return True
