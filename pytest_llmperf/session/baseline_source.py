"""Chooses the stored sessions to judge by: the work tree's or those of a pull request's base."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.match import BaselineSet, find_baseline
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.gate.words import count
from pytest_llmperf.repository.checkout import export
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.revisions import Revision, base_of_pull_request, resolve

if TYPE_CHECKING:
    from pytest_llmperf.baselines.record import ModelIdentity
    from pytest_llmperf.machine.fingerprint import Machine


def read_baselines(
    store: BaselineStore,
    machine: Machine,
    model: ModelIdentity,
    asked: Revision | None,
) -> tuple[BaselineSet, list[str]]:
    """Return the sessions to judge by, and a note if they are not the work tree's.

    Args:
        store: the work tree's store.
        machine: this machine.
        model: the model in use.
        asked: the commit whose baselines count; None takes the work tree, or in the CI job
            of a pull request its merge base, so that a branch is not judged by what it
            recorded itself.

    Raises:
        BaselineError: files that can't be used.
        GitError: git can't read the files of that commit.
    """
    target = base_of_pull_request(os.environ)
    if asked is None and target is None:
        return find_baseline(store, machine, model), []
    if asked is not None:
        return _read_from(_repository_of(store), asked, store, machine, model)
    try:
        repository = _repository(store)
        if repository is None:
            return find_baseline(store, machine, model), []
        revision = resolve(repository, f"merge-base:{target}")
    except GitError as error:
        note = (
            "baselines are read from the work tree, so this branch may be judged by what it "
            f"recorded itself: {error}"
        )
        return find_baseline(store, machine, model), [note]
    # Unreadable baselines of the base must not be replaced by what the branch recorded itself.
    return _read_from(repository, revision, store, machine, model)


def check_baselines_at(store: BaselineStore, revision: Revision) -> None:
    """Check that the store's sessions at a commit can be read.

    Raises:
        GitError: git can't read them, or there is no repository.
        BaselineError: a file can't be used.
    """
    with baselines_at(store, revision, _repository_of(store)) as stored:
        if stored is not None:
            stored.check_all()


@contextmanager
def baselines_at(
    store: BaselineStore, revision: Revision, repository: Repository
) -> Iterator[BaselineStore | None]:
    """Provide a copy of the store's folder at a commit; None outside of the repository.

    Raises:
        GitError: git can't read it.
    """
    if not store.root.resolve().is_relative_to(repository.top):
        yield None
        return
    folder = store.root.resolve().relative_to(repository.top).as_posix()
    with tempfile.TemporaryDirectory(prefix="llmperf-") as temporary:
        root = Path(temporary) / store.root.name
        export(repository, revision.commit, folder, root)
        yield BaselineStore(root)


def _repository(store: BaselineStore) -> Repository | None:
    return Repository.around(store.root if store.root.is_dir() else store.root.parent)


def _repository_of(store: BaselineStore) -> Repository:
    repository = _repository(store)
    if repository is None:
        raise GitError(f"{store.root} is in no git repository")
    return repository


def _read_from(
    repository: Repository,
    revision: Revision,
    store: BaselineStore,
    machine: Machine,
    model: ModelIdentity,
) -> tuple[BaselineSet, list[str]]:
    with baselines_at(store, revision, repository) as exported:
        if exported is None:
            return find_baseline(store, machine, model), [
                f"{store.root} lies outside of the repository: baselines are read as they are there"
            ]
        baselines = _renamed(find_baseline(exported, machine, model), exported.root, store.root)
    current = find_baseline(store, machine, model)
    own = {r.path.name for r in current.records} - {r.path.name for r in baselines.records}
    notes = [f"baselines are those of {revision}"]
    if own:
        judge = "does not judge" if len(own) == 1 else "do not judge"
        notes.append(
            f"{count(len(own), 'session')} recorded since then {judge}: a branch is not "
            "judged by what it recorded itself"
        )
    return baselines, notes


def _renamed(found: BaselineSet, old_root: Path, new_root: Path) -> BaselineSet:
    """Replace the copy's paths by those in the work tree."""

    def moved(path: Path) -> Path:
        return new_root / path.relative_to(old_root)

    return replace(
        found,
        records=tuple(replace(r, path=moved(r.path)) for r in found.records),
        mismatched=tuple(replace(r, path=moved(r.path)) for r in found.mismatched),
        decisions=tuple(replace(d, path=moved(d.path)) for d in found.decisions),
    )
