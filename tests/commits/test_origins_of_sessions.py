"""Which commit stands for a stored session: its own or, if unusable, a substitute."""

from __future__ import annotations

from pathlib import Path

import pytest
from commit_projects import CommitProject, git, isolate_git, repository_at

from pytest_llmperf.baselines.record import (
    BaselineRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    TestRecord,
)
from pytest_llmperf.baselines.rerun_commit import RerunCommit, find_rerun_commit
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.machine.fingerprint import Machine
from pytest_llmperf.repository.revisions import RevisionError

MACHINE = Machine("1-core_cpu", {"backend": "cpu", "cpu": "x"}, {})
GONE = "f" * 40


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_git(monkeypatch)


def store(project: CommitProject, commit: str | None, *, dirty: bool = False) -> Path:
    """Store a session of a commit."""
    versions = ("0.1.0", "3.11.7", "app", "1", "app")
    record = BaselineRecord(
        recorded="2026-01-01T00:00:00Z",
        provenance=Provenance(commit, dirty, "main", *versions),
        model=ModelIdentity("toy", None, None, None),
        config={},
        machine=MACHINE,
        session=RecordedSession(1, 1, 3, ()),
        tests={"test_it.py::test_a": TestRecord("w", "1 request", {})},
    )
    return BaselineStore(project.path / "perf_baselines").write(record)


def origin(root: Path, **environ: str) -> RerunCommit:
    """Return the commit that stands for the only stored session."""
    (stored,) = BaselineStore(root / "perf_baselines").read_machine(MACHINE.key)
    return find_rerun_commit(stored, repository_at(root), environ)


@pytest.fixture
def branch(project: CommitProject) -> CommitProject:
    """Release is at the first commit, main one commit later, work one commit after that."""
    project.git("branch", "release")
    project.commit("more on main")
    project.git("checkout", "--quiet", "-b", "work")
    project.commit("work")
    return project


def test_the_commit_itself(branch: CommitProject) -> None:
    commit = branch.git("rev-parse", "main~1")
    file = store(branch, commit)
    stand_in = origin(branch.top)
    assert stand_in.revision.commit == commit
    assert stand_in.how == f"the commit that {file.name} measured"


@pytest.mark.parametrize(
    ("commit", "dirty", "why"),
    [
        (None, True, "was measured with uncommitted changes"),
        (GONE, False, "the commit ffffffffffff that "),
    ],
    ids=["uncommitted changes", "squashed"],
)
def test_the_commit_that_added_the_file(
    branch: CommitProject, commit: str | None, dirty: bool, why: str
) -> None:
    file = store(branch, commit or branch.git("rev-parse", "HEAD"), dirty=dirty)
    added = branch.commit("baselines")
    branch.commit("later")
    stand_in = origin(branch.top)
    assert stand_in.revision.commit == added
    assert stand_in.how.startswith(f"the commit that added {file.name} (")
    assert why in stand_in.how


def test_a_session_outside_of_a_repository_names_no_commit(branch: CommitProject) -> None:
    store(branch, None)
    added = branch.commit("baselines")
    stand_in = origin(branch.top)
    assert stand_in.revision.commit == added
    assert "does not record a commit" in stand_in.how


@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, "main"), ({"GITHUB_BASE_REF": "release"}, "release")],
    ids=["elsewhere", "in a pull request"],
)
def test_the_merge_base_where_no_commit_added_the_file(
    branch: CommitProject, environ: dict[str, str], name: str
) -> None:
    store(branch, GONE)
    stand_in = origin(branch.top, **environ)
    assert stand_in.revision.commit == branch.git("rev-parse", name)
    assert stand_in.how.startswith(f"the merge base with {name} (")


def test_nothing_stands_for_a_session_without_any_of_these(branch: CommitProject) -> None:
    branch.git("branch", "-D", "main", "release")
    store(branch, GONE)
    with pytest.raises(RevisionError, match="not in this repository, and no commit added its"):
        origin(branch.top)


@pytest.mark.parametrize("known", [True, False], ids=["known elsewhere", "uncommitted changes"])
def test_a_shallow_clone_says_what_to_fetch(
    branch: CommitProject, tmp_path: Path, known: bool
) -> None:
    """In a shallow clone, the oldest commit seems to have added every file."""
    commit = branch.git("rev-parse", "main")
    store(branch, commit, dirty=not known)
    branch.commit("baselines")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{branch.top}", "shallow")
    line = f"git fetch --depth=1 origin {commit}" if known else "git fetch --unshallow"
    with pytest.raises(RevisionError, match=line):
        origin(tmp_path / "shallow")
    git(tmp_path / "shallow", *line.split()[1:])
    origin(tmp_path / "shallow")
