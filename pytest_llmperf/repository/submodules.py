"""Fills the submodules of a checkout from the user's own clone, never from a network."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pytest_llmperf.repository.command import GitError, GitKilledError, execute
from pytest_llmperf.repository.helper import Helper, git_in

_GITLINK = "160000"


def fill_submodules(tree: Path, source: Path, helpers: Path) -> tuple[str, ...]:
    """Check out the submodules inside ``tree``; return the paths left empty.

    Args:
        tree: the checkout to fill.
        source: the user's work tree or, of a submodule, its repository's folder.
        helpers: where private repositories go.

    A submodule whose commit the user's clone does not have stays an empty folder,
    as it would in a clone without submodules.
    """
    links = _links(tree)
    if not links:
        return ()
    names = _names(tree)
    empty: list[str] = []
    for path, wanted in links.items():
        found = _source_of(source, names.get(path), path, wanted)
        if found is None or not _is_plain(tree, path):
            empty.append(path)
            continue
        try:
            number = sum(1 for _ in helpers.iterdir())
            helper = Helper.create(helpers / f"{number}.git", found)
            helper.check_out(wanted, tree / path)
        except GitKilledError:
            raise
        except GitError:
            empty.append(path)
            continue
        inner = fill_submodules(tree / path, found, helpers)
        empty += [f"{path}/{name}" for name in inner]
    return tuple(empty)


def _links(tree: Path) -> dict[str, str]:
    """Return path -> commit of the submodules in the index of ``tree``."""
    listed = git_in(tree, ["ls-files", "-z", "--stage"]) or ""
    found = {}
    for entry in listed.split("\0"):
        facts, _, path = entry.partition("\t")
        if facts.startswith(_GITLINK):
            found[path] = facts.split()[1]
    return found


def _names(tree: Path) -> dict[str, str]:
    """Return path -> name, as ``.gitmodules`` says."""
    file = tree / ".gitmodules"
    if not file.is_file() or file.is_symlink():
        return {}
    listed = git_in(
        tree, ["config", "--file", ".gitmodules", "--null", "--get-regexp", r"submodule\..*\.path"]
    )
    found = {}
    for entry in (listed or "").split("\0"):
        key, _, path = entry.partition("\n")
        name = key.removeprefix("submodule.").removesuffix(".path")
        # As git itself: a name becomes a folder's, and must not lead out of it.
        if name and ".." not in PurePosixPath(name.replace("\\", "/")).parts:
            found[path] = name
    return found


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
        found = execute([f"--git-dir={place}", "cat-file", "-e", f"{wanted}^{{commit}}"], place)
        if found.returncode == 0:
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
