"""Recording again, or measuring code that was measured before, runs nothing needlessly."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commit_projects import (
    ALIKE,
    FAR_SLOWER,
    FASTER,
    FILES,
    HARMLESS_CHANGE,
    ONE_PAIR,
    CommitProject,
    findings,
)

#: Just enough processes for a verdict by stored sessions.
THREE = "--llmperf-set=perf.processes=3"
#: Makes the machine check report a finding, but only while tests are being confirmed.
FINDS_LATER = """
import pytest_llmperf.session.machine_watch as machine_watch
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.session.confirmation import Confirmer

confirm, confirming = Confirmer._confirm, []

def noted(*arguments):
    confirming.append(True)
    try:
        return confirm(*arguments)
    finally:
        confirming.clear()

Confirmer._confirm = noted
found = [FitnessFinding("cpu_clock", "warn", "slower and slower")]
machine_watch.judge = lambda *_: list(found) if confirming else []
"""


def test_a_session_that_records_is_confirmed_on_request_only(stored: CommitProject) -> None:
    stored.store_sessions(FASTER)
    stored.commit("a remark", {**HARMLESS_CHANGE, "conftest.py": FINDS_LATER})
    result = stored.perf("--llmperf-record")
    assert result.tests["test_a"]["pairs"] == 0
    assert "confirming " not in result.out
    assert "a recording session confirms only on request: --llmperf-confirm auto" in findings(
        result
    )
    assert len(stored.baselines()) == len(FASTER) + 1
    asked = stored.perf("--llmperf-record", "--llmperf-confirm=auto", *ONE_PAIR)
    assert asked.tests["test_a"]["pairs"] == 1
    # The report covers all that was measured, the record only the samples that it holds.
    assert "cpu_clock" in {entry["name"] for entry in asked.facts["fitness"]}
    session = json.loads(Path(asked.facts["recorded_to"]).read_text())["session"]
    assert (session["findings"], "fitness" in session) == ([], False)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_what_was_recorded_outlives_an_interrupted_confirmation(
    stored: CommitProject, end: signal.Signals
) -> None:
    stored.store_sessions(FASTER)
    stored.commit("a remark", HARMLESS_CHANGE)
    command = stored.command("--llmperf-record", "--llmperf-confirm=always")
    with subprocess.Popen(
        command, cwd=stored.path, env=stored.environ, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        for line in session.stdout:
            if "confirming " in line:
                session.send_signal(end)
                break
        rest = " ".join(session.stdout.read().split())
    *_, newest = stored.baselines()
    assert len(stored.baselines()) == len(FASTER) + 1
    assert json.loads(newest.read_text())["tests"]["test_it.py::test_a"]["metrics"]
    if end is signal.SIGINT:
        assert f"recorded to {newest}" in rest
        assert "judged, but not reported as run, because the session stopped before: " in rest


@pytest.mark.parametrize("arguments", [(), ("--llmperf-record",)])
def test_where_nothing_but_baselines_changed_the_difference_is_the_machines(
    stored: CommitProject, arguments: tuple[str, ...]
) -> None:
    """Nothing can have regressed, so stored sessions alone do not call a regression."""
    stored.store_sessions([factor / FAR_SLOWER for factor in ALIKE])
    stored.commit("baselines of a far faster machine")
    session = stored.perf(THREE, *arguments)
    assert (session.ret, session.verdicts) == (0, {"test_a": "inconclusive"})
    assert session.tests["test_a"]["pairs"] == 0
    assert "confirming " not in session.out
    assert "the difference is the machine's: nothing else changed since 2026" in session.all_output
    assert (
        "it measured the same code, configuration, packages, engine and model" in session.all_output
    )
    # A finding about a busy machine may come first.
    assert "\nnothing was run against 2026" in f"\n{findings(session)}"


def test_the_same_code_is_not_run_against_itself_though_something_else_may_differ(
    stored: CommitProject,
) -> None:
    stored.store_sessions([factor / FAR_SLOWER for factor in ALIKE])
    for path in stored.baselines():
        record = json.loads(path.read_text())
        # As in records from before these items existed.
        del record["provenance"]["code"], record["provenance"]["environment"]
        path.write_text(json.dumps(record))
    stored.commit("baselines of a far faster machine")
    session = stored.perf(THREE)
    assert session.verdicts == {"test_a": "regressed"}
    assert session.tests["test_a"]["pairs"] == 0
    said = findings(session)
    assert "not confirmed, so judged by stored sessions alone: 2026" in said
    assert "measured the same code, so there is nothing to run it against; what may differ" in said
    assert "the installed packages, which its record lacks" in said


def test_another_package_is_another_environment(stored: CommitProject) -> None:
    stored.store_sessions([factor / FAR_SLOWER for factor in ALIKE])
    stored.commit("baselines of a far faster machine")
    session = stored.perf(THREE, environ={"OMP_NUM_THREADS": "1"})
    assert session.verdicts == {"test_a": "regressed"}
    assert "the installed packages, or variables of the engine's libraries" in findings(session)


def test_bringing_the_commit_is_announced_and_counts_in_time_and_budget(
    stored: CommitProject,
) -> None:
    slow = "import time\ntime.sleep(2)\n" + FILES["conftest.py"]
    commit = stored.commit("slow to start", {"conftest.py": slow})
    stored.store_sessions(FASTER, commit=commit, code=None)
    stored.commit("as before", {"conftest.py": FILES["conftest.py"]})
    session = stored.perf(*ONE_PAIR, "--llmperf-set=perf.budget=59s")
    assert session.tests["test_a"]["pairs"] == 1
    (left,) = re.findall(
        r"within the (\d+) s left of perf.budget, including checkout", session.all_output
    )
    budgets = re.findall(r"each, .* to (\S+) s\b", session.out)
    # The time left is printed in whole seconds.
    assert float(budgets[1]) <= int(left) - 1.5
    assert session.facts["wall_s"] >= 2
    without_budget = stored.perf(*ONE_PAIR, "--llmperf-set=perf.budget=1.5s")
    assert without_budget.tests["test_a"]["pairs"] == 0
    assert "perf.budget is used up (1.5 s)" in findings(without_budget)
