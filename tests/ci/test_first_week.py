"""The action's steps on a new runner in its first days, with nothing recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ci_files import ROOT, bash, gitlab_script, read_yaml, step
from commit_projects import FILES, HARMLESS_CHANGE, ONE_PAIR, SLOW, CommitProject, git, toy_source

ACTION = read_yaml(ROOT / "action.yml")
MEASURE, REPORT = step(ACTION, "Measure"), step(ACTION, "Report")
GITLAB = read_yaml(ROOT / "pytest_llmperf/cli/ci_templates/gitlab/llmperf.yml")
#: Folder of the project in its repository.
FOLDER = "bots/toys"


class Runner:
    """A repository with a remote, on a runner that uses this Python environment.

    Args:
        folder: folder for the repositories and the output of jobs.
    """

    def __init__(self, folder: Path) -> None:
        self.project = CommitProject(folder / "repository", folder / "home", FOLDER)
        self.report = folder / "report"
        self.report.mkdir()
        self.output, self.summary = folder / "output", folder / "summary"
        self._cache = folder / "cache"
        self._venv = self._cache / "ci" / "venv-0"
        (self._venv / "bin").mkdir(parents=True)
        for name, module in (("python", ""), ("llmperf", "-m pytest_llmperf.cli ")):
            program = self._venv / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
            program.chmod(0o755)
        git(folder, "init", "--quiet", "--bare", "-b", "main", "remote.git")
        self.project.git("remote", "add", "origin", str(folder / "remote.git"))

    def merge(self, branch: str) -> None:
        """Make a branch the main one, also at the remote."""
        self.project.git("checkout", "--quiet", "-B", "main", branch)
        self.project.git("push", "--quiet", "origin", "main")

    def branch(self, name: str, files: Mapping[str, str]) -> None:
        """Commit files on a branch of its own."""
        self.project.git("checkout", "--quiet", "-B", name, "main")
        self.project.commit(name, files)

    def measure(self, *arguments: str, record: bool = False) -> CompletedProcess[str]:
        """Run the step Measure in a pull request's job, or in that of the main branch."""
        inputs = {
            "RECORD": "true" if record else "false",
            "BASE": "main",
            "PYTEST_ARGS": " ".join(arguments),
            "WAIT_FIT": "1s",
            "REPORT": str(self.report),
        }
        assert MEASURE["env"].keys() == inputs.keys()
        self.output.write_text("")
        base = {} if record else {"GITHUB_BASE_REF": "main"}
        return self._run(MEASURE, inputs, GITHUB_OUTPUT=str(self.output), **base)

    def show(self) -> CompletedProcess[str]:
        """Run the step Report, which follows."""
        self.summary.write_text("")
        inputs = {"NAME": "cpu", "REPORT": str(self.report)}
        assert REPORT["env"].keys() == inputs.keys()
        top = str(self.project.top)
        return self._run(
            REPORT, inputs, GITHUB_WORKSPACE=top, GITHUB_STEP_SUMMARY=str(self.summary)
        )

    def show_in_gitlab(self) -> CompletedProcess[str]:
        """Run the report part of GitLab's job, which follows."""
        script = gitlab_script(GITLAB, ".llmperf", "Report", "after_script")
        names = {
            "REPORT": str(self.report),
            "LLMPERF_PROJECT": FOLDER,
            "LLMPERF_CACHE_DIR": str(self._cache),
            "CI_PROJECT_DIR": str(self.project.top),
        }
        return bash(script, self.project.top, self.project.environ | names)

    def _run(
        self, step: Mapping[str, Any], inputs: Mapping[str, str], **more: str
    ) -> CompletedProcess[str]:
        environ = {
            **self.project.environ,
            **inputs,
            "LLMPERF_VENV": str(self._venv),
            "PYTEST_ADDOPTS": "-p pytest_llmperf.plugin",
            **more,
        }
        at_project = step.get("working-directory") == "${{ inputs.project }}"
        cwd = self.project.path if at_project else self.project.top
        return bash(step["run"], cwd, environ)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The runner of a project that has no perf tests and no configuration yet."""
    made = Runner(tmp_path_factory.mktemp("first week"))
    made.project.commit("a repository", {"README.md": "# toys\n"})
    made.merge("HEAD")
    return made


@pytest.fixture(scope="module")
def first_tests(runner: Runner) -> Runner:
    """The same runner, with the project's first perf tests on a branch."""
    runner.branch("tests", FILES)
    return runner


@pytest.fixture(scope="module")
def merged(first_tests: Runner) -> Runner:
    """The same runner, with the perf tests on the main branch."""
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
    assert status == f"?? {recorded.relative_to(merged.project.top)}"
    recorded.unlink()


def test_without_any_baseline_a_slower_branch_is_red(merged: Runner) -> None:
    merged.branch("slower", {"toy.py": toy_source(SLOW)})
    done = merged.measure()
    assert done.returncode == 1, done.stdout
    assert "regressed" in done.stdout
    assert "exit-code=1\n" in merged.output.read_text()

    # The summary has the page once, and a shorter page is for the comment.
    shown = merged.show()
    assert shown.returncode == 0, shown.stdout
    summary, comment = merged.summary.read_text(), (merged.report / "comment.md").read_text()
    assert summary.count("### llmperf: regressed") == 1
    assert "### llmperf: regressed" in comment
    assert len(comment) <= 30_000
    # Both services show it on the line of the test, from the repository's top.
    assert f"::error file={FOLDER}/test_it.py,line=4,title=llmperf%3A regressed::" in shown.stdout
    shown = merged.show_in_gitlab()
    assert shown.returncode == 0, shown.stdout
    (finding,) = json.loads((merged.report / "codequality.json").read_text())
    assert finding["location"] == {"path": f"{FOLDER}/test_it.py", "lines": {"begin": 4}}


def test_a_job_that_measured_nothing_says_so_once(runner: Runner) -> None:
    (runner.report / "session.json").unlink(missing_ok=True)
    shown = runner.show()
    assert shown.returncode == 0, shown.stdout
    text = "Nothing was measured (cpu): the log says why.\n"
    assert runner.summary.read_text() == text
    assert (runner.report / "comment.md").read_text() == text


def test_without_any_baseline_an_unchanged_branch_is_green(merged: Runner) -> None:
    merged.branch("remark", HARMLESS_CHANGE)
    done = merged.measure(*ONE_PAIR)
    assert done.returncode == 0, done.stdout


def test_a_required_baseline_fails_tests_that_the_base_lacks(merged: Runner) -> None:
    text = FILES["test_it.py"].replace("test_a", "test_b")
    merged.branch("more", {"test_more.py": text})
    done = merged.measure("--llmperf-require-baseline", "test_more.py")
    assert done.returncode == 1, done.stdout
    assert "no baseline" in done.stdout
