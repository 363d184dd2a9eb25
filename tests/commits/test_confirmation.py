"""What stored sessions make suspect is run against the commit that they measured."""

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
    ONE_PAIR,
    REMARK,
    SLOW,
    TEST,
    CommitProject,
    findings,
    git,
    lines_with,
    toy,
)

from pytest_llmperf.gate.check import Check, Evidence
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.result import CheckResult
from pytest_llmperf.session.suspects import why_suspect

TEST_B = TEST.replace("import pytest", "").replace("test_a", "test_b")
#: As many processes as stored sessions need to be sure, and no more pairs than that.
FEW = (ALONE, "--llmperf-set=perf.processes=3", "--llmperf-set=perf.max_pairs=3")


def store_two(
    project: CommitProject, commits: tuple[str, str], only: Callable[[int], str | None]
) -> None:
    """Store sessions of test_a and test_b, which measured the first and the second commit in turns.

    ``only``: which test the session of a number holds; None for both.
    """
    project.store_sessions([*ALIKE, *ALIKE])
    for number, path in enumerate(project.baselines()):
        record = json.loads(path.read_text())
        ((nodeid, test),) = record["tests"].items()
        both = {nodeid: test, nodeid.replace("test_a", "test_b"): test}
        chosen = only(number)
        record["tests"] = {k: v for k, v in both.items() if not chosen or k.endswith(chosen)}
        record["provenance"]["commit"] = commits[number % 2]
        path.write_text(json.dumps(record))


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
    # The sessions that made it suspect, although pairs decided.
    assert [Path(name).name for name in found.facts["baselines"]] == sorted(names)
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
    stored.commit("baselines of a faster machine", REMARK)
    found = stored.perf(ALONE)
    assert found.ret == 0
    assert found.verdicts == {"test_a": "pass"}
    announced = r"1 test is to be confirmed .*measuring 1 test, at least 1 pair of processes each, "
    assert re.search(announced + r"[\d.]+ m?s to ", found.said)
    said = r"suspect by its baseline \(end to end \d\d(\.\d)?% slower\), so run against"
    assert re.search(said, findings(found))
    assert found.tests["test_a"]["pairs"] >= 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (0.02, "end to end 2.0% slower"),
        # A fifth of the tolerance is negligible, and no reason to suspect anything.
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
    stored.commit("baselines of a faster machine", REMARK)
    found = stored.perf("--llmperf-confirm=never")
    assert found.tests["test_a"]["pairs"] == 0
    assert found.verdicts["test_a"] in ("regressed", "inconclusive")
    assert "run against" not in found.said
    assert "not confirmed" not in found.said


def test_always_runs_what_passes(stored: CommitProject) -> None:
    stored.store_sessions([1.1 * factor for factor in ALIKE])
    stored.commit("baselines of a slower machine", REMARK)
    found = stored.perf("--llmperf-confirm=always", *ONE_PAIR)
    assert found.tests["test_a"]["pairs"] == 1
    assert "run against " in findings(found)


def test_uncommitted_changes_are_confirmed_against_their_own_commit(
    stored: CommitProject,
) -> None:
    stored.store_sessions(ALIKE)
    stored.write({"toy.py": toy(SLOW)})
    found = stored.perf(*ONE_PAIR)
    assert found.tests["test_a"]["pairs"] == 1
    assert found.change() > 0.5


def test_a_squashed_commit_gives_way_to_the_one_that_added_the_file(
    stored: CommitProject,
) -> None:
    stored.store_sessions(FASTER, commit="f" * 40)
    added = stored.commit("baselines of a branch that was squashed")
    stored.commit("a remark", REMARK)
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
    stored.store_sessions(FASTER, commit=broken, code=None)
    stored.commit("mended", {"conftest.py": FILES["conftest.py"]})
    found = stored.perf()
    assert found.tests["test_a"]["pairs"] == 0
    assert "not confirmed, so stored sessions alone judge: the tests could not" in findings(found)
    assert "half a conftest" in findings(found)


def test_what_is_left_of_the_budget_is_all_that_confirmation_takes(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("baselines of a faster machine", REMARK)
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
    stored.commit("a remark", REMARK)
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
    stored.commit("baselines of an engine with seven threads", REMARK)
    found = stored.perf(*ONE_PAIR)
    (line,) = lines_with(findings(found), ["not confirmed, so stored sessions alone judge"])
    assert (
        "runs with the same engine, so comparing with it can't show the effect of: llm.n_threads 7"
        in line
    )
    assert found.tests["test_a"]["pairs"] == 0


def test_a_test_that_the_commit_cannot_confirm_keeps_what_its_stored_sessions_say(
    stored: CommitProject,
) -> None:
    """It asks for other work there: comparing nothing must not take a regression's place."""
    other = TEST_B.replace('"hello"', '"other words"')
    commit = stored.commit("other work", {"test_it.py": TEST + other})
    store_two(stored, (commit, commit), lambda _: None)
    stored.commit("slower tokens", {"toy.py": toy(FAR_SLOWER), "test_it.py": TEST + TEST_B})
    found = stored.perf(*FEW)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    assert found.verdicts["test_b"] == "regressed"
    said = findings(found, "test_b")
    assert "not confirmed, so stored sessions alone judge: " in said
    assert "other work, so not judged as equal" in said
    # The two judge by half of the session's rate each, though one group was all there was.
    assert found.tests["test_a"]["pairs"] == 3
    (metric,) = [m for m in found.tests["test_a"]["metrics"] if m["gated"]]
    assert metric["proof"]["log_threshold"] == pytest.approx(math.log(2 / 0.01))


def test_a_device_taken_meanwhile_loses_no_verdict_and_no_record(
    stored: CommitProject, tmp_path: Path
) -> None:
    """test_a is confirmed against one commit; for test_b's the device can't be had any more."""
    taking = """
        import atexit, os

        def take(path=os.environ["LLMPERF_DEVICE_LOCK"]):
            os.path.isdir(path) or (os.unlink(path), os.mkdir(path))

        atexit.register(take)
    """
    both = stored.commit("two tests", {"test_it.py": TEST + TEST_B})
    breaks = FILES["conftest.py"] + dedent(taking)
    commits = (both, stored.commit("takes the device", {"conftest.py": breaks}))
    store_two(stored, commits, lambda number: ("test_a", "test_b")[number % 2])
    stored.commit("slower", {"toy.py": toy(FAR_SLOWER), "conftest.py": FILES["conftest.py"]})
    before = len(stored.baselines())
    environ = {"LLMPERF_DEVICE_LOCK": str(tmp_path / "device.lock")}
    budget = "--llmperf-set=perf.budget=59s"
    record = ("--llmperf-record", "--llmperf-confirm=auto")
    found = stored.perf(*FEW, budget, *record, environ=environ)
    assert found.tests["test_a"]["pairs"] == 3
    assert found.verdicts["test_b"] == "regressed"
    assert "stored sessions alone judge: the device's lock file" in findings(found, "test_b")
    assert len(stored.baselines()) == before + 1
    # What the first commit took of the budget is not there for the second.
    budgets = [float(text) for text in re.findall(r"each, .* to (\S+) s\b", found.out)]
    assert len(budgets) == 3
    assert budgets[0] == 59 >= budgets[1] > budgets[2]


def test_a_suspect_with_a_metric_that_can_t_be_measured_says_why_it_is_not_confirmed(
    stored: CommitProject,
) -> None:
    """There is no roofline of an application: an error, beside a suspect end to end."""
    stored.store_sessions(FASTER)
    roofline = TEST.replace("@pytest", '@pytest.mark.roofline(min="1%")\n@pytest', 1)
    stored.commit("baselines of a faster machine", {"test_it.py": roofline})
    found = stored.perf(*ONE_PAIR)
    assert found.verdicts == {"test_a": "error"}
    assert found.tests["test_a"]["pairs"] == 0
    (line,) = lines_with(findings(found), ["not confirmed, so stored sessions alone judge: "])
    assert "roofline could not be judged (error: the roofline is unknown: " in line


#: Notes each time that a session reads the installed packages for what it keeps of its pairs.
NOTES_READING = """
import os

import pytest_llmperf.packages.fingerprint as packages

read = packages.fingerprint

def noted(*arguments, **options):
    with open(os.environ["READINGS"], "a") as file:
        print("for pairs" if options.get("touched", True) else "for records", file=file)
    return read(*arguments, **options)

packages.fingerprint = noted
"""
#: Damages a stored session, as a broken checkout or a full disk may while another one measures.
DAMAGES = """
import os

with open(os.environ["STORED"], "w") as file:
    file.write("{")
"""


def test_a_session_reads_its_own_side_once_however_many_commits_confirm(
    stored: CommitProject, tmp_path: Path
) -> None:
    """Stored sessions were read before; what becomes of their files then changes no verdict."""
    damaging = {"test_it.py": TEST + TEST_B, "conftest.py": FILES["conftest.py"] + DAMAGES}
    commits = (stored.commit("one", damaging), stored.commit("two", REMARK))
    store_two(stored, commits, lambda number: ("test_a", "test_b")[number % 2])
    stored.commit("slower", {"toy.py": toy(FAR_SLOWER), "conftest.py": NOTES_READING + CONFTEST})
    readings = tmp_path / "readings"
    environ = {"STORED": str(stored.baselines()[-1]), "READINGS": str(readings)}
    found = stored.perf(*FEW[1:], environ=environ)
    assert [found.tests[name]["pairs"] for name in ("test_a", "test_b")] == [3, 3]
    # This side's, and each commit's.
    assert readings.read_text().splitlines().count("for pairs") == 3
