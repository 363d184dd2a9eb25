"""Every command finds the project that pytest finds, from any of its folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from baseline_folders import SHORT, Folder
from commit_projects import git

from pytest_llmperf.bisect.project import find_project
from pytest_llmperf.cli import main
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.doctor.setup import set_up

CONFIG = "llm: {engine: app, target: 'toy:answer'}\nperf: {baselines: stored, tolerance: 7%}\n"
SUB = "tests/perf"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a session in each of two commits; a subfolder is the current folder."""
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    top = tmp_path / "project"
    top.joinpath(SUB).mkdir(parents=True)
    top.joinpath("pytest.ini").write_text("[pytest]\n")
    top.joinpath("config.yaml").write_text(CONFIG)
    # Nearer, but not where pytest takes the project's settings from.
    top.joinpath("tests", "config.yaml").write_text("perf: {baselines: nowhere}\n")
    top.joinpath(SUB, "test_chat.py").touch()
    git(top, "init", "--quiet")
    for day in (1, 2):
        Folder(top / "stored").record(day)
        git(top, "add", ".")
        git(top, "commit", "--quiet", "-m", f"day {day}")
    monkeypatch.chdir(top / SUB)
    return top


@pytest.mark.parametrize(
    "words",
    [
        ("baseline", "show", "--json"),
        ("baseline", "prune"),
        ("baseline", "accept", "--reason", "it is the level", SHORT),
        ("history", "--json"),
        ("compare", "HEAD~1", "HEAD"),
    ],
    ids=" ".join,
)
def test_a_command_reads_the_projects_configuration_and_baselines(
    top: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "no session" not in out
    if words[0] == "compare":
        assert "tolerance 7%" in out
    if "accept" in words:
        assert list(top.glob("stored/*/decisions/*_accept.json"))


def test_a_search_over_commits_has_pytests_root_folder_and_settings(top: Path) -> None:
    project = find_project(Path.cwd(), ["test_chat.py", "-k", "short"])
    assert project.root == top
    assert project.perf.tolerance == 0.07
    top.joinpath("ci").mkdir()
    top.joinpath("ci", "config.yaml").write_text("perf: {tolerance: 3%}\n")
    elsewhere = find_project(Path.cwd(), ["-c", "../../ci/ci.ini"])
    assert (elsewhere.root, elsewhere.perf.tolerance) == (top / "ci", 0.03)


def test_the_doctor_examines_the_projects_engine(top: Path) -> None:
    setup = set_up(None, (), ProjectFolders.around(Path.cwd()), {})
    assert setup.loaded.path == top / "config.yaml"
    assert setup.spec.import_paths == (str(top),)
