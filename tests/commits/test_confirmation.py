"""What stored sessions make suspect is run against the commit that they measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commit_projects import (
    ALONE,
    FILES,
    ONE_PAIR,
    SLOW,
    CommitProject,
    Session,
    git,
    lines_with,
    toy,
)

ALIKE = (1.0, 1.01, 0.99, 1.0)
#: The machine was that much faster when these were recorded.
FASTER = tuple(0.9 * factor for factor in ALIKE)


@pytest.fixture(scope="module")
def recorded(shared: CommitProject) -> CommitProject:
    """One session recorded at the first commit, tag ``fast``; nothing of it is committed."""
    shared.git("tag", "fast")
    # Enough processes to be called by, and the median of a few.
    found = shared.perf("--llmperf-record", "--llmperf-set=perf.processes=3")
    assert found.ret == 0, found.out
    return shared


@pytest.fixture
def stored(recorded: CommitProject) -> Iterator[CommitProject]:
    """As ``recorded``; whatever a test makes of it is taken back."""
    kept = {path: path.read_text() for path in recorded.baselines()}
    yield recorded
    recorded.git("checkout", "--quiet", "--force", "main")
    recorded.git("reset", "--quiet", "--hard", "fast")
    recorded.git("clean", "--quiet", "-fdx", "--exclude=__pycache__")
    for path, text in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def findings(session: Session) -> str:
    """What the report says about the only test."""
    return "\n".join(session.tests["test_a"]["findings"])


def test_a_slower_commit_is_regressed_against_the_commit_that_was_recorded(
    stored: CommitProject,
) -> None:
    fast = stored.git("rev-parse", "fast")[:12]
    names = stored.store_sessions(ALIKE)
    stored.commit("baselines")
    stored.commit("slower tokens", {"toy.py": toy(1.5)})
    found = stored.perf(ALONE)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    assert found.verdicts == {"test_a": "regressed"}
    test = found.tests["test_a"]
    assert test["pairs"] >= 6
    assert 0.3 < found.change() < 0.7
    (line,) = lines_with(findings(found), ["suspect by its baseline (end to end", "run against"])
    assert f"run against {fast}" in line
    assert any(f"the commit that {name} measured" in line for name in names)
    assert f"llmperf bisect {fast}" in found.said
    assert stored.checkouts() == []


def test_a_machine_that_was_faster_then_is_no_regression(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine")
    found = stored.perf(ALONE)
    assert found.ret == 0
    assert found.verdicts == {"test_a": "pass"}
    assert "suspect by its baseline (end to end 1" in findings(found)
    assert found.tests["test_a"]["pairs"] >= 3


def test_never_lets_stored_sessions_judge(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine")
    found = stored.perf("--llmperf-confirm=never")
    assert found.tests["test_a"]["pairs"] == 0
    assert found.verdicts["test_a"] in ("regressed", "inconclusive")
    assert "run against" not in found.said
    assert "not confirmed" not in found.said


def test_always_runs_what_passes(stored: CommitProject) -> None:
    stored.store_sessions([1.1 * factor for factor in ALIKE])
    stored.commit("baselines of a slower machine")
    found = stored.perf("--llmperf-confirm=always", *ONE_PAIR)
    assert found.tests["test_a"]["pairs"] == 1
    assert findings(found).startswith("run against ")


def test_uncommitted_changes_are_confirmed_against_their_own_commit(
    stored: CommitProject,
) -> None:
    stored.store_sessions(ALIKE)
    stored.write({"toy.py": toy(SLOW)})
    found = stored.perf(*ONE_PAIR)
    assert found.tests["test_a"]["pairs"] == 1
    assert found.change() > 0.5


def test_the_commit_that_was_recorded_is_not_run_against_itself(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    found = stored.perf()
    assert found.tests["test_a"]["pairs"] == 0
    assert "not confirmed, so stored sessions alone judge" in findings(found)
    assert "measured this very commit: nothing but the machine differs" in findings(found)


def test_a_squashed_commit_gives_way_to_the_one_that_added_the_file(
    stored: CommitProject,
) -> None:
    stored.store_sessions(FASTER, commit="f" * 40)
    added = stored.commit("baselines of a branch that was squashed")
    stored.commit("a remark", {"toy.py": toy(also="# a remark\n")})
    found = stored.perf(*ONE_PAIR)
    assert found.tests["test_a"]["pairs"] == 1
    (line,) = lines_with(findings(found), ["run against"])
    assert f"run against {added[:12]}, the commit that added 2026" in line
    assert "the commit ffffffffffff that 2026" in line
    assert "is not in this repository" in line


def test_outside_of_a_repository_stored_sessions_judge_and_say_why(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    away = stored.home / "put away"
    stored.top.joinpath(".git").rename(away)
    try:
        found = stored.perf()
    finally:
        away.rename(stored.top / ".git")
    assert found.verdicts["test_a"] in ("regressed", "inconclusive")
    assert "not confirmed, so stored sessions alone judge: " in findings(found)
    assert "is in no git repository" in findings(found)


def test_a_baseline_commit_that_is_broken_now_is_told_with_its_log(stored: CommitProject) -> None:
    """Its dependencies, or its fixtures, are not what they were: no regression for that."""
    broken = stored.commit("broken", {"conftest.py": "raise RuntimeError('half a conftest')\n"})
    stored.store_sessions(FASTER, commit=broken)
    stored.commit("mended", {"conftest.py": FILES["conftest.py"]})
    found = stored.perf()
    assert found.tests["test_a"]["pairs"] == 0
    assert "not confirmed, so stored sessions alone judge: the tests could not" in findings(found)
    assert "half a conftest" in findings(found)


def test_what_is_left_of_the_budget_is_all_that_confirmation_takes(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine")
    found = stored.perf(ALONE, "--llmperf-set=perf.budget=0.3s")
    assert found.verdicts["test_a"] in ("regressed", "inconclusive")
    assert found.tests["test_a"]["pairs"] < 6
    assert "budget" in found.said


def test_a_shallow_clone_gets_the_line_that_brings_the_commit(
    stored: CommitProject, tmp_path: Path
) -> None:
    fast = stored.git("rev-parse", "fast")
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine")
    stored.commit("a remark", {"toy.py": toy(also="# a remark\n")})
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{stored.top}", str(shallow))
    clone = CommitProject(shallow, stored.home)
    found = clone.perf(*ONE_PAIR)
    assert found.tests["test_a"]["pairs"] == 0
    assert "not confirmed, so stored sessions alone judge: " in findings(found)
    assert f"git fetch --depth=1 origin {fast}" in findings(found)


def test_what_the_engine_costs_is_not_cleared_by_a_commit_that_has_the_same_one(
    stored: CommitProject,
) -> None:
    stored.store_sessions(FASTER)
    for path in stored.baselines():
        record = json.loads(path.read_text())
        record["config"]["n_threads"] = 7
        path.write_text(json.dumps(record))
    stored.commit("baselines of an engine with seven threads")
    found = stored.perf(*ONE_PAIR)
    (line,) = lines_with(findings(found), ["not confirmed, so stored sessions alone judge"])
    assert "has the same engine here, so it can't tell what that costs: llm.n_threads 7" in line
    assert found.tests["test_a"]["pairs"] == 0
