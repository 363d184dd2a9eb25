"""``llmperf ci init``: which files it writes, what it leaves alone, and what it says."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ci_files import ACTION, COMMENT, GITLAB, ROOT, WORKFLOW, read_yaml
from commit_projects import git

Init = Callable[..., int]


def written(repository: Path) -> set[str]:
    files = (path for path in repository.rglob("*") if path.is_file())
    names = {path.relative_to(repository).as_posix() for path in files}
    return {name for name in names if not name.startswith(".git/")}


def test_files_for_github_and_what_to_do_next(init: Init, repository: Path, capsys) -> None:
    assert init("github") == 0
    assert written(repository) == {WORKFLOW, COMMENT, ACTION}
    printed = " ".join(capsys.readouterr().out.split())
    for name in (WORKFLOW, COMMENT, ACTION):
        assert f"wrote {name}" in printed
    assert "commit the files and open a pull request" in printed
    assert "LLMPERF_GPU_RUNNER" in printed


def test_files_for_gitlab_and_what_to_do_next(init: Init, repository: Path, capsys) -> None:
    assert init("gitlab") == 0
    assert written(repository) == {GITLAB, ".gitlab-ci.yml"}
    assert "LLMPERF_PUSH_TOKEN" in capsys.readouterr().out
    assert read_yaml(repository / ".gitlab-ci.yml") == {"include": [{"local": GITLAB}]}


def test_a_gitlab_ci_yml_of_the_user_is_left_alone(init: Init, repository: Path, capsys) -> None:
    own = repository / ".gitlab-ci.yml"
    own.write_text("test: {script: [make test]}\n")
    assert init("gitlab", "--force") == 0
    assert own.read_text() == "test: {script: [make test]}\n"
    printed = " ".join(capsys.readouterr().out.split())
    assert "add to .gitlab-ci.yml: include: [{local: .gitlab/llmperf.yml}]" in printed


def test_print_writes_nothing(init: Init, repository: Path, capsys) -> None:
    assert init("github", "--print") == 0
    assert written(repository) == set()
    printed = capsys.readouterr().out
    assert init("github") == 0
    for name in (WORKFLOW, COMMENT, ACTION):
        assert f"# {name}\n{(repository / name).read_text()}" in printed


def test_a_file_that_is_there_already_is_unchanged(init: Init, repository: Path, capsys) -> None:
    assert init("github") == 0
    (repository / ACTION).unlink()
    capsys.readouterr()
    assert init("github") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [f"unchanged {WORKFLOW}", f"unchanged {COMMENT}", f"wrote {ACTION}"]


def test_a_changed_file_is_overwritten_by_force_only(init: Init, repository, capsys) -> None:
    assert init("github") == 0
    changed = repository / WORKFLOW
    whole = changed.read_text()
    changed.write_text("# mine\n")
    (repository / ACTION).unlink()
    assert init("github") == 1
    assert f"nothing is written: {WORKFLOW} would change" in capsys.readouterr().err
    assert changed.read_text() == "# mine\n"
    assert not (repository / ACTION).exists()
    assert init("github", "--force") == 0
    assert f"overwrote {WORKFLOW}" in capsys.readouterr().out
    assert changed.read_text() == whole


def test_a_folder_that_can_t_be_written_is_named(init: Init, repository: Path, capsys) -> None:
    (repository / ".github").write_text("")
    assert init("github") == 1
    assert ".github" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runner", "left"),
    [
        ("cpu", {"gate-cpu", "due", "record-cpu"}),
        ("gpu", {"gate-gpu", "due", "record-gpu"}),
    ],
)
def test_jobs_of_one_kind_of_runner(init: Init, repository, capsys, runner, left) -> None:
    assert init("github", "--runner", runner) == 0
    assert read_yaml(repository / WORKFLOW)["jobs"].keys() == left
    assert ("LLMPERF_GPU_RUNNER" in capsys.readouterr().out) == (runner == "gpu")
    assert init("gitlab", "--runner", runner) == 0
    jobs = {name for name in read_yaml(repository / GITLAB) if not name.startswith(".")}
    assert jobs == {f"llmperf-gate-{runner}", f"llmperf-record-{runner}"}


def test_branch_and_folders_are_the_project_s(
    init: Init, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = repository / "bots" / "chat"
    project.mkdir(parents=True)
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "config.yaml").write_text("perf:\n  baselines: speed\n")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "first")
    git(repository, "remote", "add", "origin", "nowhere")
    git(repository, "update-ref", "refs/remotes/origin/trunk", "HEAD")
    git(repository, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    monkeypatch.chdir(project)
    assert init("github") == 0
    workflow = read_yaml(repository / WORKFLOW)
    assert workflow["on"]["push"] == {
        "branches": ["trunk"],
        "paths-ignore": ["bots/chat/speed/**"],
    }
    given = workflow["jobs"]["gate-cpu"]["steps"][1]["with"]
    assert (given["project"], given["baselines"]) == ("bots/chat", "bots/chat/speed")
    assert init("gitlab") == 0
    variables = read_yaml(repository / GITLAB)[".llmperf"]["variables"]
    assert variables["LLMPERF_PROJECT"] == "bots/chat"
    assert init("github", "--branch", "next", "--force") == 0
    assert read_yaml(repository / WORKFLOW)["on"]["push"]["branches"] == ["next"]


def test_baselines_elsewhere_are_refused(init: Init, repository: Path, capsys) -> None:
    (repository / "config.yaml").write_text("perf:\n  baselines: ../speed\n")
    assert init("github") == 1
    assert "lies outside of the repository" in capsys.readouterr().err
    assert written(repository) == {"config.yaml"}


@pytest.mark.parametrize("words", [[], ["travis"], ["github", "--branch", "a b"]])
def test_wrong_arguments(init: Init, repository: Path, words) -> None:
    assert init(*words) == 2
    assert written(repository) == set()


def test_the_wheel_holds_the_templates(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folder = "pytest_llmperf/cli/ci_templates"
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(folder)}
    known = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    assert held == {path.relative_to(ROOT).as_posix() for path in known}
    assert len(held) == 4


def test_a_name_that_no_workflow_file_can_quote_is_refused(
    repository: Path, init: Init, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    project = repository / 'the "fast" one'
    project.mkdir()
    (project / "config.yaml").write_text("perf: {baselines: perf_baselines}\n")
    monkeypatch.chdir(project)
    assert init("github") == 1
    assert "has a quote, a backslash or a control character" in capsys.readouterr().err
    assert written(repository) == {'the "fast" one/config.yaml'}


def test_a_gitlab_ci_yml_in_another_encoding_is_read(init: Init, repository: Path, capsys) -> None:
    (repository / ".gitlab-ci.yml").write_bytes("# gr\xfcn\n".encode("latin-1"))
    assert init("gitlab") == 0
    assert "add to .gitlab-ci.yml" in capsys.readouterr().out
