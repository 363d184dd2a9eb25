"""Sessions in a repository that git can't use: measured without a commit, or refused up front."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged_repositories import DAMAGES, git, hang, two_commits
from plugin_projects import Project, all_output

from pytest_llmperf.repository import command

pytestmark = [
    pytest.mark.skipif(os.name == "nt" or shutil.which("git") is None, reason="needs git"),
    pytest.mark.usefixtures("quiet_machine"),
]

#: Case -> error text: git is not installed, hangs, or can't read the object it is asked about
#: first or last.
CASES = {
    "no git": "git is not installed",
    "hanging": "did not answer within 1 s and was killed",
    "HEAD is garbage": ".git is damaged",
    "the index is garbage": "rm .git/index && git reset",
}


@pytest.fixture
def repository(one_test: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project with one perf test, in a repository of two commits."""
    for name in list(os.environ):
        if name.startswith(("GIT_", "GITHUB_", "CI")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    # pytest-benchmark asks git about the commit too, and waits for the answer without a limit.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:benchmark")
    two_commits(one_test.path)
    return one_test


@pytest.fixture
def damage(repository: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes git unable to use the repository."""

    def do(case: str) -> None:
        if case == "no git":
            monkeypatch.setenv("PATH", "")
        elif case == "hanging":
            monkeypatch.setattr(command, "QUERY_SECONDS", 1.0)
            hang(repository.path)
        else:
            DAMAGES[case][0](repository.path)

    return do


@pytest.mark.parametrize("case", CASES)
def test_a_session_is_recorded_without_a_commit_and_says_why_once(
    repository: Project, damage: Callable[[str], None], case: str
) -> None:
    damage(case)
    result = repository.perf("--llmperf-record")
    assert result.ret == 0, all_output(result)
    (note,) = [text for text in repository.session()["session"]["notes"] if "git" in text]
    assert note.startswith("no commit is recorded, because git can't be used: ")
    assert CASES[case] in note
    assert "Traceback" not in all_output(result)
    (baseline,) = repository.baselines()
    provenance = json.loads(baseline.read_text())["provenance"]
    assert (provenance["commit"], provenance["branch"]) == (None, None)


@pytest.mark.parametrize(
    ("case", "option"),
    [
        *((case, "--llmperf-against") for case in CASES),
        ("hanging", "--llmperf-baselines-from"),
        ("HEAD is garbage", "--llmperf-baselines-from"),
    ],
)
def test_what_needs_a_commit_is_refused_before_a_body_runs(
    repository: Project, damage: Callable[[str], None], case: str, option: str
) -> None:
    damage(case)
    result = repository.perf(f"{option}=HEAD")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"llmperf: {option}: " in all_output(result)
    assert CASES[case] in all_output(result)
    assert "Traceback" not in all_output(result)
    assert not (repository.path / "loaded").exists()


def test_baselines_that_git_can_not_read_are_refused_before_a_body_runs(
    repository: Project,
) -> None:
    stored = repository.path / "perf_baselines" / "machine" / "20260101T000000Z_a.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    git(repository.path, "add", "--all")
    git(repository.path, "commit", "--quiet", "-m", "baselines")
    blob = git(repository.path, "rev-parse", f"HEAD:{stored.relative_to(repository.path)}")
    stored.unlink()
    (repository.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    result = repository.perf("--llmperf-baselines-from=HEAD")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--llmperf-baselines-from: object {blob} of " in all_output(result)
    assert not (repository.path / "loaded").exists()


def test_git_that_breaks_once_a_body_has_run_fails_no_test(repository: Project) -> None:
    repository.write(
        test_it="""
        import pathlib

        @pytest.mark.perf
        def test_answer(llm_engine):
            assert llm_engine.generate("hello", max_tokens=4).text
            if pathlib.Path(".git").is_dir():
                pathlib.Path(".git/index").write_text("garbage")
        """
    )
    git(repository.path, "commit", "--quiet", "--all", "-m", "breaks what it lies in")
    result = repository.perf("--llmperf-against=HEAD", "--llmperf-set=perf.max_pairs=1")
    assert result.ret == 0, all_output(result)
    assert "could not be measured" not in all_output(result)
    assert "code: git diff-tree failed in" in all_output(result)


def test_a_calibration_says_why_it_names_no_commit(
    repository: Project, damage: Callable[[str], None]
) -> None:
    damage("HEAD is garbage")
    request = {"sessions": 1, "slowdown": 0.0, "share": 1.0, "store": True, "json": None}
    file = repository.path / "request.json"
    file.write_text(json.dumps(request))
    one_pair = "--llmperf-set=perf.max_pairs=1"
    result = repository.here("-m", "perf", f"--llmperf-calibrate={file}", one_pair)
    assert result.ret == 0, all_output(result)
    assert all_output(result).count("note: no commit is recorded, because git can't be used: ") == 1


def test_a_repository_that_the_environment_names_is_not_asked(
    repository: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    head = git(repository.path, "rev-parse", "HEAD")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    result = repository.perf("--llmperf-record")
    assert result.ret == 0, all_output(result)
    (baseline,) = repository.baselines()
    assert json.loads(baseline.read_text())["provenance"]["commit"] == head
