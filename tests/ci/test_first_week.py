"""A new runner: what the action's own script does on its first days, with nothing recorded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from ci_files import ROOT, bash, git, read_yaml, step
from commit_projects import FILES, ONE_PAIR, REMARK, SLOW, CommitProject, toy

STEP = step(read_yaml(ROOT / "action.yml"), "Measure")


class Runner:
    """A project with a remote, on a runner whose environment is this one.

    Args:
        folder: for the repositories and what jobs write.
    """

    def __init__(self, folder: Path) -> None:
        self.project = CommitProject(folder / "toys", folder / "home")
        self.report = folder / "report"
        self.report.mkdir()
        self.output = folder / "output"
        self._venv = folder / "venv"
        (self._venv / "bin").mkdir(parents=True)
        python = self._venv / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        git(folder, "init", "--quiet", "--bare", "-b", "main", "remote.git")
        self.project.git("remote", "add", "origin", str(folder / "remote.git"))

    def merge(self, branch: str) -> None:
        """Make a branch the main one, here and at the remote."""
        self.project.git("checkout", "--quiet", "-B", "main", branch)
        self.project.git("push", "--quiet", "origin", "main")

    def branch(self, name: str, files: Mapping[str, str]) -> None:
        """Commit files on a branch of its own."""
        self.project.git("checkout", "--quiet", "-B", name, "main")
        self.project.commit(name, files)

    def measure(self, *arguments: str, record: bool = False) -> CompletedProcess[str]:
        """Run the step in a pull request's job, or in that of the main branch."""
        given = {
            "RECORD": "true" if record else "false",
            "BASE": "main",
            "PYTEST_ARGS": " ".join(arguments),
            "WAIT_FIT": "1s",
            "REPORT": str(self.report),
        }
        assert STEP["env"].keys() == given.keys()
        self.output.write_text("")
        environ = {
            **self.project.environ,
            **given,
            "GITHUB_OUTPUT": str(self.output),
            "LLMPERF_VENV": str(self._venv),
            "PYTEST_ADDOPTS": "-p pytest_llmperf.plugin",
            **({} if record else {"GITHUB_BASE_REF": "main"}),
        }
        return bash(STEP["run"], self.project.path, environ)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The runner of a project that has no perf tests and no configuration yet."""
    made = Runner(tmp_path_factory.mktemp("first week"))
    made.project.commit("a project", {"README.md": "# toys\n"})
    made.merge("HEAD")
    return made


@pytest.fixture(scope="module")
def first_tests(runner: Runner) -> Runner:
    """The same with its first perf tests on a branch."""
    runner.branch("tests", FILES)
    return runner


@pytest.fixture(scope="module")
def merged(first_tests: Runner) -> Runner:
    """The same with its perf tests on the main branch."""
    first_tests.merge("tests")
    return first_tests


def test_the_pull_request_that_brings_the_tests_is_green(first_tests: Runner) -> None:
    done = first_tests.measure()
    assert done.returncode == 0, done.stdout
    assert "added" in done.stdout
    assert "no baseline" in done.stdout
    assert first_tests.output.read_text() == "exit-code=0\nrecorded=false\n"
    assert (first_tests.report / "session.json").exists()
    assert (first_tests.report / "report.html").exists()
    assert (first_tests.report / "junit.xml").exists()
    assert not first_tests.project.baselines()


def test_the_main_branch_is_recorded(merged: Runner) -> None:
    done = merged.measure(record=True)
    assert done.returncode == 0, done.stdout
    assert merged.output.read_text() == "exit-code=0\nrecorded=true\n"
    (recorded,) = merged.project.baselines()
    # Nothing else is left in the tree.
    status = merged.project.git("status", "--porcelain", "--untracked-files=all")
    assert status == f"?? {recorded.relative_to(merged.project.path)}"
    recorded.unlink()


def test_without_any_baseline_a_slower_branch_is_red(merged: Runner) -> None:
    merged.branch("slower", {"toy.py": toy(SLOW)})
    done = merged.measure()
    assert done.returncode == 1, done.stdout
    assert "regressed" in done.stdout
    assert "exit-code=1\n" in merged.output.read_text()


def test_without_any_baseline_an_unchanged_branch_is_green(merged: Runner) -> None:
    merged.branch("remark", REMARK)
    done = merged.measure(*ONE_PAIR)
    assert done.returncode == 0, done.stdout


def test_a_required_baseline_fails_tests_that_the_base_lacks(merged: Runner) -> None:
    text = FILES["test_it.py"].replace("test_a", "test_b")
    merged.branch("more", {"test_more.py": text})
    done = merged.measure("--llmperf-require-baseline", "test_more.py")
    assert done.returncode == 1, done.stdout
    assert "no baseline" in done.stdout
