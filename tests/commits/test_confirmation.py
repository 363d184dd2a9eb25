"""Tests that stored sessions make suspect are run against the commit that those measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from commit_projects import (
    ALIKE,
    ALONE,
    CONFTEST,
    FAR_SLOWER,
    FASTER,
    FILES,
    HARMLESS_CHANGE,
    ONE_PAIR,
    SLOW,
    TEST,
    CommitProject,
    findings,
    git,
    lines_with,
    toy_source,
)

from pytest_llmperf.gate.check import Check, Evidence
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.result import CheckResult
from pytest_llmperf.session.suspects import why_suspect

TEST_B = TEST.replace("import pytest", "").replace("test_a", "test_b")
#: Just enough processes for a verdict by stored sessions, and at most as many pairs.
FEW = (ALONE, "--llmperf-set=perf.processes=3", "--llmperf-set=perf.max_pairs=3")


def store_two(
    project: CommitProject, commits: tuple[str, str], only: Callable[[int], str | None]
) -> None:
    """Store sessions of test_a and test_b that measured the first and the second commit by turns.

    ``only``: the test that the session with a number holds; None means both.
    """
    project.store_sessions([*ALIKE, *ALIKE])
    for number, path in enumerate(project.baselines()):
        record = json.loads(path.read_text())
        ((nodeid, test),) = record["tests"].items()
        tests = {nodeid: test, nodeid.replace("test_a", "test_b"): test}
        held = only(number)
        record["tests"] = {k: v for k, v in tests.items() if not held or k.endswith(held)}
        record["provenance"]["commit"] = commits[number % 2]
        path.write_text(json.dumps(record))


def test_a_slower_commit_is_regressed_against_the_commit_that_was_recorded(
    stored: CommitProject,
) -> None:
    fast = stored.git("rev-parse", "fast")[:12]
    names = stored.store_sessions(ALIKE)
    stored.commit("baselines")
    stored.commit("slower tokens", {"toy.py": toy_source(1.5)})
    session = stored.perf(ALONE)
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert session.verdicts == {"test_a": "regressed"}
    # The sessions that made the test suspect, although the pairs decided.
    assert [Path(name).name for name in session.facts["baselines"]] == sorted(names)
    test = session.tests["test_a"]
    assert test["pairs"] >= 6
    assert 0.3 < session.change() < 0.7
    (line,) = lines_with(findings(session), ["suspect by its baseline (end to end", "run against"])
    assert f"run against {fast}" in line
    assert any(f"the commit that {name} measured" in line for name in names)
    assert f"llmperf bisect {fast}" in session.all_output
    assert stored.checkouts() == []


def test_a_machine_that_was_faster_then_is_no_regression(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine", HARMLESS_CHANGE)
    session = stored.perf(ALONE)
    assert session.ret == 0
    assert session.verdicts == {"test_a": "pass"}
    announced = r"confirming 1 test against .*measuring 1 test, at least 1 pair of processes each, "
    assert re.search(announced + r"[\d.]+ m?s to ", session.all_output)
    reason = r"suspect by its baseline \(end to end \d\d(\.\d)?% slower\), so run against"
    assert re.search(reason, findings(session))
    assert session.tests["test_a"]["pairs"] >= 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (0.02, "end to end 2.0% slower"),
        # Below a fifth of the tolerance, so negligible: no reason for suspicion.
        (0.007, "1 stored session can't prove a pass"),
        (-0.03, "1 stored session can't prove a pass"),
    ],
)
def test_a_negligible_slowdown_is_no_suspicion(change: float, why: str) -> None:
    check = Check(get_metric("end_to_end"), None, 0.05)
    verdict = Verdict(VerdictKind.INCONCLUSIVE, check, change, "", "baseline")
    result = CheckResult(Evidence("test_a", check, (), 3), verdict)
    assert why_suspect([result], 1) == why


def test_never_lets_stored_sessions_judge(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine", HARMLESS_CHANGE)
    session = stored.perf("--llmperf-confirm=never")
    assert session.tests["test_a"]["pairs"] == 0
    assert session.verdicts["test_a"] in ("regressed", "inconclusive")
    assert "run against" not in session.all_output
    assert "not confirmed" not in session.all_output


def test_always_runs_what_passes(stored: CommitProject) -> None:
    stored.store_sessions([1.1 * factor for factor in ALIKE])
    stored.commit("baselines of a slower machine", HARMLESS_CHANGE)
    session = stored.perf("--llmperf-confirm=always", *ONE_PAIR)
    assert session.tests["test_a"]["pairs"] == 1
    assert "run against " in findings(session)


def test_uncommitted_changes_are_confirmed_against_their_own_commit(
    stored: CommitProject,
) -> None:
    stored.store_sessions(ALIKE)
    stored.write({"toy.py": toy_source(SLOW)})
    session = stored.perf(*ONE_PAIR)
    assert session.tests["test_a"]["pairs"] == 1
    assert session.change() > 0.5


def test_a_squashed_commit_gives_way_to_the_one_that_added_the_file(
    stored: CommitProject,
) -> None:
    stored.store_sessions(FASTER, commit="f" * 40)
    added = stored.commit("baselines of a branch that was squashed")
    stored.commit("a remark", HARMLESS_CHANGE)
    session = stored.perf(*ONE_PAIR)
    assert session.tests["test_a"]["pairs"] == 1
    (line,) = lines_with(findings(session), ["run against"])
    assert f"run against {added[:12]}, the commit that added 2026" in line
    assert "the commit ffffffffffff that 2026" in line
    assert "is not in this repository" in line


def test_outside_of_a_repository_stored_sessions_judge_and_say_why(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    away = stored.home / "put away"
    stored.top.joinpath(".git").rename(away)
    try:
        session = stored.perf()
    finally:
        away.rename(stored.top / ".git")
    assert session.verdicts["test_a"] in ("regressed", "inconclusive")
    assert "not confirmed, so judged by stored sessions alone: " in findings(session)
    assert "is not in a git repository" in findings(session)


def test_a_baseline_commit_that_is_broken_now_is_told_with_its_log(stored: CommitProject) -> None:
    """Dependencies or fixtures may have changed since, which is no regression."""
    broken = stored.commit("broken", {"conftest.py": "raise RuntimeError('half a conftest')\n"})
    stored.store_sessions(FASTER, commit=broken, code=None)
    stored.commit("mended", {"conftest.py": FILES["conftest.py"]})
    session = stored.perf()
    assert session.tests["test_a"]["pairs"] == 0
    assert "not confirmed, so judged by stored sessions alone: the tests could not" in findings(
        session
    )
    assert "half a conftest" in findings(session)


def test_what_is_left_of_the_budget_is_all_that_confirmation_takes(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine", HARMLESS_CHANGE)
    session = stored.perf(ALONE, "--llmperf-set=perf.budget=0.3s")
    assert session.verdicts["test_a"] in ("regressed", "inconclusive")
    assert session.tests["test_a"]["pairs"] < 6
    assert "budget" in session.all_output


def test_a_shallow_clone_gets_the_line_that_brings_the_commit(
    stored: CommitProject, tmp_path: Path
) -> None:
    fast = stored.git("rev-parse", "fast")
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine")
    stored.commit("a remark", HARMLESS_CHANGE)
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{stored.top}", str(shallow))
    clone = CommitProject(shallow, stored.home)
    session = clone.perf(*ONE_PAIR)
    assert session.tests["test_a"]["pairs"] == 0
    assert "not confirmed, so judged by stored sessions alone: " in findings(session)
    assert f"git fetch --depth=1 origin {fast}" in findings(session)


def test_what_the_engine_costs_is_not_cleared_by_a_commit_that_has_the_same_one(
    stored: CommitProject,
) -> None:
    stored.store_sessions(FASTER)
    for path in stored.baselines():
        record = json.loads(path.read_text())
        record["config"]["n_threads"] = 7
        path.write_text(json.dumps(record))
    stored.commit("baselines of an engine with seven threads", HARMLESS_CHANGE)
    session = stored.perf(*ONE_PAIR)
    (line,) = lines_with(findings(session), ["not confirmed, so judged by stored sessions alone"])
    assert (
        "runs with the same engine, so comparing with it can't show the effect of: llm.n_threads 7"
        in line
    )
    assert session.tests["test_a"]["pairs"] == 0


def test_a_test_that_the_commit_cannot_confirm_keeps_what_its_stored_sessions_say(
    stored: CommitProject,
) -> None:
    """The test does other work there; an empty comparison must not replace a regression."""
    other_work = TEST_B.replace('"hello"', '"other words"')
    commit = stored.commit("other work", {"test_it.py": TEST + other_work})
    store_two(stored, (commit, commit), lambda _: None)
    stored.commit("slower tokens", {"toy.py": toy_source(FAR_SLOWER), "test_it.py": TEST + TEST_B})
    session = stored.perf(*FEW)
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert session.verdicts["test_b"] == "regressed"
    text = findings(session, "test_b")
    assert "not confirmed, so judged by stored sessions alone: " in text
    assert "a different workload, so not compared" in text
    # Pairs and stored sessions judge at half of the session's rate each, despite only one group.
    assert session.tests["test_a"]["pairs"] == 3
    (metric,) = [m for m in session.tests["test_a"]["metrics"] if m["gated"]]
    assert metric["proof"]["log_threshold"] == pytest.approx(math.log(2 / 0.01))


def test_a_device_taken_meanwhile_loses_no_verdict_and_no_record(
    stored: CommitProject, tmp_path: Path
) -> None:
    """test_a is confirmed against its commit; then the device is gone before test_b's turn."""
    taking = """
        import atexit, os

        def take(path=os.environ["LLMPERF_DEVICE_LOCK"]):
            os.path.isdir(path) or (os.unlink(path), os.mkdir(path))

        atexit.register(take)
    """
    two_tests = stored.commit("two tests", {"test_it.py": TEST + TEST_B})
    breaks = FILES["conftest.py"] + dedent(taking)
    commits = (two_tests, stored.commit("takes the device", {"conftest.py": breaks}))
    store_two(stored, commits, lambda number: ("test_a", "test_b")[number % 2])
    stored.commit("slower", {"toy.py": toy_source(FAR_SLOWER), "conftest.py": FILES["conftest.py"]})
    before = len(stored.baselines())
    environ = {"LLMPERF_DEVICE_LOCK": str(tmp_path / "device.lock")}
    budget = "--llmperf-set=perf.budget=59s"
    record = ("--llmperf-record", "--llmperf-confirm=auto")
    session = stored.perf(*FEW, budget, *record, environ=environ)
    assert session.tests["test_a"]["pairs"] == 3
    assert session.verdicts["test_b"] == "regressed"
    assert "judged by stored sessions alone: the device's lock file" in findings(session, "test_b")
    assert len(stored.baselines()) == before + 1
    # The second commit gets only what the first one left of the budget.
    budgets = [float(text) for text in re.findall(r"each, .* to (\S+) s\b", session.out)]
    assert len(budgets) == 3
    assert budgets[0] == 59 >= budgets[1] > budgets[2]


def test_a_suspect_with_a_metric_that_can_t_be_measured_says_why_it_is_not_confirmed(
    stored: CommitProject,
) -> None:
    """An application has no roofline: that metric is an error, while end to end is suspect."""
    stored.store_sessions(FASTER)
    roofline = TEST.replace("@pytest", '@pytest.mark.roofline(min="1%")\n@pytest', 1)
    stored.commit("baselines of a faster machine", {"test_it.py": roofline})
    session = stored.perf(*ONE_PAIR)
    assert session.verdicts == {"test_a": "error"}
    assert session.tests["test_a"]["pairs"] == 0
    (line,) = lines_with(findings(session), ["not confirmed, so judged by stored sessions alone: "])
    assert "roofline could not be judged (error: the roofline is unknown: " in line


#: Logs each time that a session reads the installed packages: for its pairs or for records.
NOTES_READING = """
import os

import pytest_llmperf.packages.fingerprint as packages

read = packages.fingerprint

def noted(*arguments, **options):
    with open(os.environ["READINGS"], "a") as file:
        print("for pairs" if options.get("with_times", True) else "for records", file=file)
    return read(*arguments, **options)

packages.fingerprint = noted
"""
#: Damages a stored session, as a broken checkout or a full disk may during another session.
DAMAGES = """
import os

with open(os.environ["STORED"], "w") as file:
    file.write("{")
"""


def test_a_session_reads_its_own_side_once_however_many_commits_confirm(
    stored: CommitProject, tmp_path: Path
) -> None:
    """Stored sessions are read beforehand: later damage to their files changes no verdict."""
    damaging = {"test_it.py": TEST + TEST_B, "conftest.py": FILES["conftest.py"] + DAMAGES}
    commits = (stored.commit("one", damaging), stored.commit("two", HARMLESS_CHANGE))
    store_two(stored, commits, lambda number: ("test_a", "test_b")[number % 2])
    stored.commit(
        "slower", {"toy.py": toy_source(FAR_SLOWER), "conftest.py": NOTES_READING + CONFTEST}
    )
    readings = tmp_path / "readings"
    environ = {"STORED": str(stored.baselines()[-1]), "READINGS": str(readings)}
    session = stored.perf(*FEW[1:], environ=environ)
    assert [session.tests[name]["pairs"] for name in ("test_a", "test_b")] == [3, 3]
    # One of this side, and one of each commit.
    assert readings.read_text().splitlines().count("for pairs") == 3
