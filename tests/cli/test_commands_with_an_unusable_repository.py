"""The commands in a repository that git can't use: they do without it, or say what is wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from baseline_folders import Folder
from damaged_repositories import DAMAGES, hang, two_commits

from pytest_llmperf.cli import main
from pytest_llmperf.repository import command

pytestmark = pytest.mark.skipif(os.name == "nt" or shutil.which("git") is None, reason="needs git")

#: Problems with a repository, and words of the message about each.
CASES = {
    "no git": "git is not installed",
    "hanging": "did not answer within 0.5 s and was killed",
    "the branch is empty": "git fsck",
    "the main repository is gone": "points to no longer exists",
}


@pytest.fixture(params=CASES)
def problem(request: pytest.FixtureRequest, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> str:
    """Words of the message about the current folder's repository; the folder has a session."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("COLUMNS", "1000")
    folder.record(1)
    Folder(Path("other")).record(2)
    two_commits(Path.cwd())
    if request.param == "no git":
        monkeypatch.setenv("PATH", "")
    elif request.param == "hanging":
        monkeypatch.setattr(command, "QUERY_SECONDS", 0.5)
        hang(Path.cwd())
    else:
        DAMAGES[request.param][0](Path.cwd())
    return CASES[request.param]


@pytest.mark.parametrize(
    "words",
    ["history", "compare HEAD~1 HEAD", "compare perf_baselines rev:HEAD", "bisect HEAD~1 HEAD"],
)
def test_a_command_that_reads_commits_says_what_is_wrong(
    problem: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) in (1, 2)
    out, err = capsys.readouterr()
    assert problem in err
    assert (out, err.count(problem)) == ("", 1)


@pytest.mark.parametrize("verb", ["accept", "anchor"])
def test_a_decision_is_stored_without_a_commit_and_says_why(
    problem: str, verb: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", verb, "--reason", "why"]) == 0
    assert "note: it names no commit, because git can't be used: " in capsys.readouterr().out
    (stored,) = folder.shelf().decisions
    assert stored.decision.commit is None


@pytest.mark.parametrize("words", ["baseline show", "compare perf_baselines other"])
def test_a_command_that_needs_no_commit_does_not_mention_it(
    problem: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 0
    assert problem not in "".join(capsys.readouterr())
