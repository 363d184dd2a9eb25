"""Pairs of earlier sessions count if they compared exactly the same two sides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commit_projects import ALONE, SLOW, CommitProject, Session, make_venv, toy_source

ONE, TWO, THREE = (f"--llmperf-set=perf.max_pairs={number}" for number in (1, 2, 3))
EARLIER = "measured the same comparison and count"


@pytest.fixture(scope="module")
def slower(shared: CommitProject) -> CommitProject:
    """A project whose HEAD is far slower than HEAD~1."""
    shared.commit("slower tokens", {"toy.py": toy_source(SLOW)})
    return shared


@pytest.fixture(scope="module")
def sessions(slower: CommitProject) -> list[Session]:
    """Three sessions in a row; the files that they record do not count as a changed tree."""
    return [slower.against("HEAD~1", THREE, "--llmperf-record") for _ in range(3)]


def kept(project: CommitProject) -> dict[Path, str]:
    return {path: path.read_text() for path in (project.cache / "evidence").iterdir()}


def test_a_second_session_goes_on_where_the_first_ended(sessions: list[Session]) -> None:
    first, second, _ = sessions
    assert EARLIER not in first.all_output
    assert f"3 pairs of earlier sessions {EARLIER} (perf.accumulate)" in second.all_output
    assert [session.tests["test_a"]["pairs"] for session in sessions[:2]] == [3, 6]


def test_evidence_adds_up_to_a_verdict(sessions: list[Session]) -> None:
    """A slowdown takes at least six pairs, and neither session measures that many."""
    assert [session.verdicts["test_a"] for session in sessions[:2]] == ["inconclusive", "regressed"]


def test_what_is_decided_already_is_not_measured_again(sessions: list[Session]) -> None:
    third = sessions[2]
    assert third.ret == pytest.ExitCode.TESTS_FAILED
    assert third.verdicts == {"test_a": "regressed"}
    assert third.tests["test_a"]["pairs"] == 6


def test_a_baseline_holds_what_its_own_session_measured(
    slower: CommitProject, sessions: list[Session]
) -> None:
    records = [json.loads(path.read_text()) for path in slower.baselines()]
    measured = [len(session.tests["test_a"]["metrics"][-1]["samples"]) for session in sessions[:2]]
    assert measured == [3, 6]
    for record in records[:2]:
        (test,) = record["tests"].values()
        assert len(test["metrics"]["end_to_end"]["samples"]) == 3
        assert not test.get("invalid")
    for record in records[2:]:
        # Nothing was measured, so nothing is stored as samples; the budget is not to blame.
        (test,) = record["tests"].values()
        assert not test["metrics"]
        assert test["invalid"]
        assert "budget" not in test["invalid"][0]


def test_without_accumulating_nothing_counts_or_is_kept(
    slower: CommitProject, sessions: list[Session]
) -> None:
    before = kept(slower)
    session = slower.against("HEAD~1", ONE, ALONE)
    assert EARLIER not in session.all_output
    assert session.tests["test_a"]["pairs"] == 1
    assert kept(slower) == before


@pytest.mark.usefixtures("sessions")
def test_a_changed_file_starts_anew(slower: CommitProject) -> None:
    slower.write({"toy.py": toy_source(SLOW, extra="# a remark\n")})
    session = slower.against("HEAD~1", ONE)
    slower.git("checkout", "--quiet", "toy.py")
    assert EARLIER not in session.all_output
    assert session.tests["test_a"]["pairs"] == 1


@pytest.mark.parametrize("setting", ["llm.seed=64", "perf.fitness.busy_gpu=note"])
@pytest.mark.usefixtures("sessions")
def test_a_changed_setting_starts_anew(slower: CommitProject, setting: str) -> None:
    session = slower.against("HEAD~1", ONE, f"--llmperf-set={setting}")
    assert EARLIER not in session.all_output
    assert session.tests["test_a"]["pairs"] == 1


@pytest.mark.usefixtures("sessions")
def test_another_base_starts_anew(slower: CommitProject) -> None:
    other_base = slower.git("commit-tree", "HEAD~1^{tree}", "-m", "the same files, another commit")
    session = slower.against(other_base, ONE)
    assert EARLIER not in session.all_output
    assert session.tests["test_a"]["pairs"] == 1


def test_a_half_written_line_is_no_pair(project: CommitProject) -> None:
    project.against("HEAD", TWO)
    ((path, text),) = kept(project).items()
    path.write_text(text.rstrip()[:-40])
    session = project.against("HEAD", ONE)
    assert f"1 pair of earlier sessions {EARLIER}" in session.all_output
    assert session.tests["test_a"]["pairs"] == 2
    # The line that was written next is complete.
    json.loads(path.read_text().splitlines()[-1])


def test_other_packages_start_anew(project: CommitProject) -> None:
    """Both commits declare the same packages and share this environment, which changed."""
    site = make_venv(project.home / "venv")
    project.python = project.home / "venv" / "bin" / "python"

    def install(version: str) -> None:
        for old in site.glob("speed-*"):
            shutil.rmtree(old)
        metadata = f"Metadata-Version: 2.1\nName: speed\nVersion: {version}\n"
        folder = site / f"speed-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(metadata)

    install("1.0")
    first, again = (project.against("HEAD", ONE) for _ in range(2))
    install("2.0")
    changed = project.against("HEAD", ONE)
    assert [session.tests["test_a"]["pairs"] for session in (first, again, changed)] == [1, 2, 1]


def test_a_variable_of_the_engines_libraries_starts_anew(project: CommitProject) -> None:
    project.against("HEAD", ONE)
    session = project.against("HEAD", ONE, environ={"OMP_WAIT_POLICY": "active"})
    assert session.tests["test_a"]["pairs"] == 1


def test_an_ignored_module_starts_anew(project: CommitProject) -> None:
    """For example an extension built in place, whose changes git does not see."""
    project.commit("ignores what is built", {".gitignore": "__pycache__/\nbuilt/\n"})
    project.write({"built/fast.py": "FACTOR = 1\n"})
    project.against("HEAD", ONE)
    project.write({"built/fast.py": "FACTOR = 100\n"})
    assert project.against("HEAD", ONE).tests["test_a"]["pairs"] == 1
