"""A commit checked out beside the user's work tree, with the environment it runs in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.engine.loaded_modules import labelled_as_engine, loaded_modules
from pytest_llmperf.repository.checkout import Checkout, check_out
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.session.base_recording import PLUGIN_PACKAGE, OtherTree
from pytest_llmperf.session.base_side import BaseSide, SideError

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.packages.environment import Environment
    from pytest_llmperf.repository.revisions import Revision
    from pytest_llmperf.session.context import SessionContext


@dataclass(frozen=True)
class CommitCheckout:
    """A commit's tree and its environment.

    Attributes:
        revision: the commit and how it was named.
        repository: the user's repository.
        files: its files, beside the user's work tree.
        project: the folder in it that corresponds to the project's root folder.
        environment: the Python environment of its processes.
        roots: folders its modules are imported from first.
    """

    revision: Revision
    repository: Repository
    files: Checkout
    project: Path
    environment: Environment
    roots: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in reports: as typed, plus the hash unless that identifies it."""
        name, short = self.revision.name, self.revision.short
        return short if self.revision.commit.startswith(name) else f"{name} ({short})"

    def tree(self) -> OtherTree:
        """Return the tree in which to record its tests."""
        return OtherTree(
            title=f"{self.name} {self.revision.subject!r}",
            project=self.project,
            environment=self.environment,
            roots=self.roots,
            top_here=self.repository.top,
            top=self.files.top,
            scratch=self.files.top.parent,
        )

    def close(self) -> None:
        """Remove the tree."""
        self.files.close()


def repository_of(root: Path, asked: str) -> Repository:
    """Return the repository of the project.

    Raises:
        SideError: there is no repository or commit; ``asked`` names what needs it.
        GitError: it can't be used.
    """
    repository = Repository.around(root)
    if repository is None:
        raise SideError(
            f"{root} is not in a git repository, so there is no other commit for {asked}"
        )
    if repository.head() is None:
        raise SideError(f"{repository.top} has no commit yet, so {asked} has nothing to look up")
    return repository


def check_out_commit(
    root: Path,
    repository: Repository,
    revision: Revision,
    say: Callable[[str], None],
    install: str | None,
    seconds: float | None = None,
    import_roots: Sequence[str] = (),
) -> CommitCheckout:
    """Check the commit out and provide its environment.

    Args:
        root: the project's folder.
        repository: the user's repository.
        revision: the commit.
        say: shows one line.
        install, seconds: see ``environment_for``.
        import_roots: folders that this process imports from first.

    Raises:
        SideError: it lacks the project's folder, or its dependencies can't be installed.
        GitError: it can't be checked out.
    """
    from pytest_llmperf.config.embedded import cache_dir
    from pytest_llmperf.packages.environment import InstallError, environment_for
    from pytest_llmperf.packages.roots import import_roots as roots_of

    cache = cache_dir(os.environ)
    checkout = check_out(repository, revision.commit, cache)
    try:
        below = root.resolve().relative_to(repository.top)
        project = checkout.top / below
        if not project.is_dir():
            raise SideError(f"{revision} has no folder {below.as_posix()}, so nothing to compare")
        try:
            environment = environment_for(root, project, cache, say, install, seconds)
        except InstallError as error:
            raise SideError(f"{revision}: {error}") from None
        given = _moved_roots(import_roots, root, repository.top, checkout.top, revision)
        roots = tuple(dict.fromkeys((*given, *roots_of(root, project))))
        return CommitCheckout(revision, repository, checkout, project, environment, roots)
    except BaseException:
        checkout.close()
        raise


def _moved_roots(
    folders: Sequence[str], root: Path, top: Path, other_top: Path, revision: Revision
) -> list[str]:
    """Return the counterparts, in the other tree, of this process's import folders.

    Raises:
        SideError: the other tree lacks a folder, so its modules would come from this tree.
    """
    moved_folders = []
    for folder in folders:
        path = Path(folder).resolve()
        if not path.is_relative_to(top):
            continue
        moved = other_top / path.relative_to(top)
        if not moved.is_dir():
            below = path.relative_to(top).as_posix()
            raise SideError(
                f"{revision} has no folder {below}, which the modules of {root.name} are imported "
                "from here"
            )
        moved_folders.append(str(moved))
    return moved_folders


def foreign_module(origins: Mapping[str, str], top: Path, whose: str) -> str:
    """Return an error message if a module was not imported from the tree ``top``; else ""."""
    for name, file in sorted(origins.items()):
        path = Path(os.path.realpath(file))
        inside = path.is_relative_to(top.resolve())
        below = path.relative_to(top.resolve()).parts if inside else ()
        # An environment often lies in the tree, but its packages are not part of the project.
        installed = {"site-packages", "dist-packages"} & set(below)
        if name.partition(" ")[0] != PLUGIN_PACKAGE and (not inside or installed):
            return (
                f"{whose} imported the project's module {name!r} from {file}, which is not in its "
                f"own tree ({top}): both sides would run the same code; comparison stopped; "
                "install the project in editable form (pip install -e .), or name its folder in "
                "pytest's pythonpath"
            )
    return ""


def module_origins(context: SessionContext, engine: LlmEngine) -> dict[str, str]:
    """Return the files that the project's modules were imported from, here and in the engine.

    The engine must still be running. Empty where nothing is compared with another commit.
    """
    from pytest_llmperf.packages.roots import import_roots, own_modules

    root, base = context.root, context.request.base
    confirms = base is None and context.confirming in ("auto", "always")
    if not confirms and (base is None or isinstance(base, Path | BaseSide)):
        return {}
    try:
        if Repository.around(root) is None:
            return {}
    except GitError:
        # Options that need git were refused before; a note says why no commit is recorded.
        return {}
    names = own_modules(root, (*context.import_roots, *import_roots(root, root)))
    return {**loaded_modules(names), **labelled_as_engine(engine.modules(names))}
