"""A commit's tree beside the user's: its files, its environment, where its modules come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.plugin.recording_there import INSTRUMENT, ArmError, There
from pytest_llmperf.plugin.settings import given_roots
from pytest_llmperf.repository.checkout import Checkout, check_out
from pytest_llmperf.repository.git import Repository

if TYPE_CHECKING:
    from pytest_llmperf.packages.environment import Environment
    from pytest_llmperf.repository.revisions import Revision


@dataclass(frozen=True)
class Place:
    """A commit's tree and what it runs in.

    Attributes:
        revision: the commit and how it was named.
        repository: the user's.
        checkout: its files, beside the user's work tree.
        project: the folder there that is the root folder here.
        environment: the Python environment of its processes.
        roots: folders its modules are imported from first.
    """

    revision: Revision
    repository: Repository
    checkout: Checkout
    project: Path
    environment: Environment
    roots: tuple[str, ...]

    @property
    def name(self) -> str:
        """What reports call it: as typed, and the hash where that does not tell it."""
        name, short = self.revision.name, self.revision.short
        return short if self.revision.commit.startswith(name) else f"{name} ({short})"

    def there(self) -> There:
        """Return where its tests are recorded."""
        return There(
            title=f"{self.name} {self.revision.subject!r}",
            project=self.project,
            environment=self.environment,
            roots=self.roots,
            top_here=self.repository.top,
            top=self.checkout.top,
            scratch=self.checkout.top.parent,
        )

    def close(self) -> None:
        """Remove the tree."""
        self.checkout.close()


def repository_of(root: Path, asked: str) -> Repository:
    """Return the repository of the project.

    Raises:
        ArmError: there is none; ``asked`` is what needs one.
    """
    repository = Repository.around(root)
    if repository is None:
        raise ArmError(f"{root} is in no git repository, so {asked} has no other commit")
    if repository.head() is None:
        raise ArmError(f"{repository.top} has no commit yet, so {asked} has nothing to look up")
    return repository


def prepare(
    root: Path,
    repository: Repository,
    revision: Revision,
    say: Callable[[str], None],
    install: str | None,
    seconds: float | None = None,
) -> Place:
    """Check the commit out and bring its environment; ``root`` is the project's folder here.

    ``install`` and ``seconds`` as ``environment_for`` takes them.

    Raises:
        ArmError: it has no such folder, or its dependencies can't be installed.
        GitError: it can't be checked out.
    """
    from pytest_llmperf.config.embedded import cache_dir
    from pytest_llmperf.packages.environment import InstallError, environment_for
    from pytest_llmperf.packages.errors import DeclarationError
    from pytest_llmperf.packages.roots import import_roots

    cache = cache_dir(os.environ)
    checkout = check_out(repository, revision.commit, cache)
    try:
        below = root.resolve().relative_to(repository.top)
        project = checkout.top / below
        if not project.is_dir():
            raise ArmError(f"{revision} has no folder {below.as_posix()}, so nothing to compare")
        try:
            environment = environment_for(root, project, cache, say, install, seconds)
        except (InstallError, DeclarationError) as error:
            raise ArmError(f"{revision}: {error}") from None
        given = _given_roots(root, repository.top, checkout.top, revision)
        roots = tuple(dict.fromkeys((*given, *import_roots(root, project))))
        return Place(revision, repository, checkout, project, environment, roots)
    except BaseException:
        checkout.close()
        raise


def _given_roots(root: Path, here: Path, there: Path, revision: Revision) -> list[str]:
    """Return the folders there of those that this session was started with (``adopt.py``).

    Raises:
        ArmError: one does not exist there, so its modules would come from this tree.
    """
    found = []
    for folder in given_roots():
        path = Path(folder).resolve()
        if not path.is_relative_to(here):
            continue
        moved = there / path.relative_to(here)
        if not moved.is_dir():
            below = path.relative_to(here).as_posix()
            raise ArmError(
                f"{revision} has no folder {below}, which the modules of {root.name} are imported "
                "from here"
            )
        found.append(str(moved))
    return found


def foreign(origins: Mapping[str, str], top: Path, whose: str) -> str:
    """Say which module of the project was not imported from the tree ``top``; empty if all were."""
    for name, file in sorted(origins.items()):
        path = Path(os.path.realpath(file))
        inside = path.is_relative_to(top.resolve())
        below = path.relative_to(top.resolve()).parts if inside else ()
        # An environment often lies in the tree: what is installed there is no part of it.
        installed = {"site-packages", "dist-packages"} & set(below)
        if name.partition(" ")[0] != INSTRUMENT and (not inside or installed):
            return (
                f"{whose} imported the project's module {name!r} from {file}, which is not in its "
                f"own tree ({top}): a thing would be compared with itself, so nothing is judged; "
                "install the project in editable form (pip install -e .), or name its folder in "
                "pytest's pythonpath"
            )
    return ""
