"""On a branch under review, its own recorded sessions do not judge it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commit_projects import CommitProject, Session, git

GITHUB = {"GITHUB_BASE_REF": "main"}
#: No confirmation: only which sessions judge matters here.
NEVER = "--llmperf-confirm=never"


@pytest.fixture(scope="module")
def review(shared: CommitProject) -> CommitProject:
    """Two sessions recorded on main, and two more on a branch."""
    assert shared.perf("--llmperf-record").ret == 0
    names = shared.store_sessions((1.0, 1.01))
    shared.commit("baselines of main")
    shared.git("checkout", "--quiet", "-b", "work")
    (folder,) = {path.parent for path in shared.baselines()}
    for name in names:
        text = (folder / name).read_text()
        (folder / f"{name[:4]}02{name[6:]}").write_text(text.replace("2026-01", "2026-02"))
    return shared


def sources(found: Session) -> list[str]:
    """Return the names of the files that judged."""
    return [Path(name).name for name in found.facts["baselines"]]


def test_only_sessions_of_the_merge_base_judge_a_pull_request(review: CommitProject) -> None:
    session = review.perf(NEVER, environ=GITHUB)
    base = review.git("rev-parse", "--short=12", "main")
    assert sources(session) == [path.name for path in review.baselines()[:2]]
    assert f"baselines are those of merge-base:main ({base} baselines of main)" in session.notes
    assert "2 sessions recorded since then do not judge: a branch is not judged by" in session.notes


def test_elsewhere_the_sessions_of_the_work_tree_judge(review: CommitProject) -> None:
    session = review.perf(NEVER)
    assert len(sources(session)) == 4
    assert "baselines are" not in session.notes


def test_a_commit_can_be_named_whose_sessions_judge(review: CommitProject) -> None:
    session = review.perf(NEVER, "--llmperf-baselines-from=main~1")
    assert sources(session) == []
    assert "baselines are those of main~1 (" in session.notes
    assert "4 sessions recorded since then do not judge" in session.notes


def test_a_commit_that_does_not_exist_is_told(review: CommitProject) -> None:
    session = review.perf(NEVER, "--llmperf-baselines-from=mian")
    assert session.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR)
    assert "--llmperf-baselines-from: there is no commit 'mian'" in session.all_output
    assert "did you mean main?" in session.all_output


def test_a_shallow_clone_says_what_to_fetch_and_reads_the_work_tree(
    review: CommitProject, tmp_path: Path
) -> None:
    review.git("add", "--all")
    review.git("commit", "--quiet", "-m", "baselines of the branch itself")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{review.top}", "shallow")
    clone = CommitProject(tmp_path / "shallow", review.home)
    session = clone.perf(NEVER, environ=GITHUB)
    assert len(sources(session)) == 4
    assert "this branch may be judged by what it recorded itself" in session.notes
    assert (
        "fetch the history they share: git fetch --unshallow origin "
        "main:refs/remotes/origin/main" in session.notes
    )


def test_without_a_repository_the_work_tree_is_read(project: CommitProject) -> None:
    """As in a CI job that gets the files without their history."""
    project.top.joinpath(".git").rename(project.home / "put away")
    session = project.perf(NEVER, environ=GITHUB)
    assert session.verdicts == {"test_a": "no baseline"}
    assert session.ret == 0
    asked = project.perf(NEVER, "--llmperf-baselines-from=main")
    assert asked.ret != 0
    assert "is not in a git repository" in asked.all_output


def test_a_damaged_baseline_of_that_commit_is_refused_before_a_body_runs(
    review: CommitProject,
) -> None:
    (first, *_) = review.baselines()
    good = first.read_text()
    first.write_text(good[: len(good) // 2])
    review.commit("a damaged baseline")
    first.write_text(good)
    review.commit("it is restored")
    session = review.perf(NEVER, "--llmperf-baselines-from=HEAD~1")
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert first.name in session.all_output
    assert "measuring" not in session.all_output
    review.git("reset", "--quiet", "--hard", "HEAD~2")


def test_baselines_outside_of_any_repository_have_no_other_commit(
    review: CommitProject, tmp_path: Path
) -> None:
    outside = f"--llmperf-set=perf.baselines={tmp_path / 'kept'}"
    session = review.perf(NEVER, "--llmperf-baselines-from=main", outside)
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "--llmperf-baselines-from: " in session.all_output
    assert "is in no git repository" in session.all_output
    assert "measuring" not in session.all_output
