"""Sessions on a disturbed machine, and sessions whose configuration makes them slow."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from plugin_projects import APP, all_output
from stored_sessions import scale_samples

from pytest_llmperf.cpus import usable_cpus

#: Four tokens in a third of a second: long enough for CPU counters.
STEADY = """
import time

def answer(prompt, max_tokens=4):
    for number in range(max_tokens or 4):
        time.sleep(0.08)
        yield f"word{number} "
"""

#: An application that reads its weights from disk again for every answer but the first.
FORGETFUL = """
import mmap, os

SIZE = 1 << 22
with open("weights", "wb") as file:
    file.write(os.urandom(SIZE))
    os.fsync(file.fileno())

def answer(prompt, max_tokens=4):
    weights = os.open("weights", os.O_RDONLY)
    os.posix_fadvise(weights, 0, 0, os.POSIX_FADV_DONTNEED)
    with mmap.mmap(weights, SIZE, prot=mmap.PROT_READ) as pages:
        pages.madvise(mmap.MADV_RANDOM)
        sum(pages[place] for place in range(0, SIZE, 1 << 15))
    os.close(weights)
    yield from ("a", "b", "c", "d")
"""

#: An application whose answers are shorter from the second one on.
TIRED = """
import pathlib

def answer(prompt, max_tokens=4):
    asked = pathlib.Path("asked")
    again = asked.exists()
    asked.touch()
    yield from ("a", "b") if again else ("a", "b", "c", "d")
"""

#: For tests in which the verdict does not matter.
ONE_PAIR = ("--llmperf-set", "perf.max_pairs=1")

#: Other processes on this machine are not what the test is about.
ALONE = "  fitness: {busy_cores: note, stolen_cores: note, memory_pressure: note}\n"

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@contextlib.contextmanager
def burning() -> Iterator[int]:
    """Keep every core that this process may use busy; yield the id of one of the processes."""
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(usable_cpus())
    ]
    try:
        yield burners[0].pid
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def fitness(project: Any, nodeid: str = "test_answer") -> dict[str, dict[str, Any]]:
    """Return the fitness findings about a test of the last session, by check."""
    (test,) = [t for t in project.session()["tests"] if t["nodeid"].endswith(nodeid)]
    return {entry["name"]: entry for entry in test["fitness"]}


TWO = """
@pytest.mark.perf
def test_answer(llm_engine):
    llm_engine.generate("hello", max_tokens=4)

@pytest.mark.perf
def test_other(llm_engine):
    llm_engine.generate("hello", max_tokens=4)
"""


@linux
def test_a_busy_machine_makes_a_test_invalid_and_the_check_is_named(one_test):
    one_test.path.joinpath("toy.py").write_text(STEADY)
    one_test.write(test_it=TWO)
    with burning():
        # In a subprocess, because the burners must not be children of the session they disturb.
        result = one_test.run("-m", "perf", "--llmperf-json", "out.json", "--llmperf-record")
    result.assert_outcomes(failed=2)
    assert one_test.verdicts() == {"test_answer": "invalid", "test_other": "invalid"}
    finding = fitness(one_test)["busy_cores"]
    assert finding["severity"] == "invalid"
    assert finding["processes"]
    assert finding["evidence"]["foreign_cores"] > 0.3
    explained = [m["explanation"] for t in one_test.session()["tests"] for m in t["metrics"]]
    assert [text for text in explained if text and "(busy_cores)" not in text] == []
    # The culprit is named once for all tests, whose failures name the check.
    assert all_output(result).count("what the machine did while measuring:") == 1
    assert all_output(result).count("used") == 1
    assert all_output(result).count("the machine was disturbed (busy_cores): the table below") == 2
    session = one_test.session()["session"]
    (named,) = [entry for entry in session["fitness"] if entry["name"] == "busy_cores"]
    assert named["tests"] == ["test_it.py::test_answer", "test_it.py::test_other"]
    (path,) = one_test.baselines()
    assert json.loads(path.read_text())["session"]["fitness"]["busy_cores"] == "invalid"


@linux
def test_a_severity_of_the_configuration_decides_before_samples_are_voided(one_test):
    one_test.path.joinpath("toy.py").write_text(STEADY)
    one_test.configure(APP + ALONE.replace("busy_cores: note", "busy_cores: warn"))
    with burning():
        result = one_test.run("-m", "perf", "--llmperf-json", "out.json")
    result.assert_outcomes(passed=1)
    assert one_test.verdicts() == {"test_answer": "no baseline"}
    assert fitness(one_test)["busy_cores"]["severity"] == "warn"
    assert "(busy_cores)" in all_output(result)


@linux
def test_a_model_that_does_not_stay_in_memory_makes_a_test_invalid(one_test):
    one_test.path.joinpath("toy.py").write_text(FORGETFUL)
    one_test.configure(APP + ALONE)
    one_test.perf().assert_outcomes(failed=1)
    assert one_test.verdicts() == {"test_answer": "invalid"}
    finding = fitness(one_test)["major_faults"]
    assert finding["severity"] == "invalid"
    # Three counted iterations of 128 pages each.
    assert finding["evidence"]["major_faults"] >= 128
    assert "(major_faults)" in one_test.metric("end_to_end")["explanation"]


@pytest.mark.usefixtures("quiet_machine")
def test_an_answer_that_was_cut_short_makes_a_test_invalid(one_test):
    one_test.path.joinpath("toy.py").write_text(TIRED)
    one_test.perf().assert_outcomes(failed=1)
    assert one_test.verdicts() == {"test_answer": "invalid"}
    finding = fitness(one_test)["cut_short"]
    assert finding["text"] == "generation cut short: 2 of 4 output tokens"
    assert finding["evidence"] == {"output_tokens": 2, "recorded_output_tokens": 4}
    assert "(cut_short)" in one_test.metric("end_to_end")["explanation"]


@pytest.mark.usefixtures("quiet_machine")
def test_a_shorter_answer_counts_where_the_configuration_says_so(one_test):
    one_test.path.joinpath("toy.py").write_text(TIRED)
    one_test.configure(APP + "  fitness: {cut_short: warn}\n")
    result = one_test.perf()
    result.assert_outcomes(passed=1)
    assert fitness(one_test)["cut_short"]["severity"] == "warn"
    text = all_output(result)
    assert "in 1 process: generation cut short: 2 of 4 output tokens (cut_short)" in text


#: An application that is slow when traced, as all Python is; a file "traced" turns tracing on.
TRACED = """
import os, pathlib, sys, time

def trace(*_):
    return None

if pathlib.Path("traced").exists():
    sys.settrace(trace)

def answer(prompt, max_tokens=4):
    for number in range(max_tokens or 4):
        time.sleep(0.02 if sys.gettrace() else 0.002)
        yield f"word{number} "
"""


@pytest.mark.usefixtures("quiet_machine")
def test_a_tracer_in_the_engine_is_never_a_regression(one_test):
    one_test.path.joinpath("toy.py").write_text(TRACED)
    one_test.perf("--llmperf-record").assert_outcomes(passed=1)
    one_test.store_sessions([1.0, 1.01, 0.99, 1.0, 1.01, 0.99])
    one_test.path.joinpath("traced").touch()

    result = one_test.perf()

    result.assert_outcomes(failed=1)
    assert one_test.verdicts() == {"test_answer": "invalid"}
    what = "the engine's process was traced or profiled: toy (sys.settrace), turned on later by"
    assert fitness(one_test)["traced"]["text"].startswith(what)
    text = all_output(result)
    assert what in text
    assert "without the tool or debug mode that was active in the engine's process" in text
    assert "--llmperf-accept" not in text

    # With the severity warn the test is judged, and the finding is still reported.
    one_test.configure(APP + "  fitness: {traced: warn}\n")
    told = all_output(one_test.perf())
    assert "invalid" not in one_test.verdicts().values()
    assert f"in 1 process: {what}" in told


@pytest.mark.usefixtures("quiet_machine")
def test_coverage_of_every_process_makes_no_test_slower(one_test, monkeypatch):
    one_test.path.joinpath("rc").write_text("[run]\nparallel = true\n")
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(one_test.path / "rc"))
    one_test.perf().assert_outcomes(passed=1)
    assert fitness(one_test) == {}
    assert not list(one_test.path.glob(".coverage*"))


@pytest.mark.usefixtures("quiet_machine")
def test_a_quiet_machine_and_a_plain_configuration_have_no_findings(one_test):
    one_test.perf()
    session = one_test.session()
    assert session["session"]["fitness"] == session["session"]["busy"] == []
    assert session["session"]["waited_s"] == 0.0
    assert [test["fitness"] for test in session["tests"]] == [[]]


MISSED = """
@pytest.mark.end_to_end(max="1us")
def test_answer(llm_engine):
    llm_engine.generate("hello", max_tokens=4)
"""


@pytest.mark.usefixtures("quiet_machine")
def test_threads_beyond_the_cores_are_judged_and_named_as_the_cause(project, monkeypatch):
    # In CI the summary's line is not cut to the terminal's width.
    monkeypatch.setenv("CI", "true")
    project.write(test_it=MISSED)
    many = APP.replace("n_threads: 1", "n_threads: 4096")
    project.configure(many.replace("processes: 1", "processes: 3"))
    result = project.perf()
    result.assert_outcomes(failed=1)
    assert project.verdicts() == {"test_answer": "missed"}
    finding = fitness(project)["threads_beyond_cores"]
    assert (finding["severity"], finding["processes"]) == ("warn", [])
    usable = usable_cpus()
    cause = f"n_threads 4096 on {usable} usable core{'s' if usable > 1 else ''}: threads that wait"
    (test,) = project.session()["tests"]
    assert [text.startswith(cause) for text in test["causes"]] == [True]
    assert f"likely caused by the configuration or the build: - {cause}" in all_output(result)
    assert f"; likely cause: {cause}" in all_output(result)
    assert "explained above, in its failure" in all_output(result)
    assert f"- likely cause: {cause}" in all_output(project.perf("--tb=no"))


@pytest.mark.usefixtures("quiet_machine")
def test_a_target_that_is_missed_without_a_cause_names_none(project):
    project.write(test_it=MISSED)
    project.configure(APP.replace("processes: 1", "processes: 3"))
    result = project.perf()
    assert project.verdicts() == {"test_answer": "missed"}
    assert "caused by" not in all_output(result)
    assert project.session()["tests"][0]["causes"] == []


@pytest.fixture
def recorded(project, quiet_machine):
    """A project whose baseline was recorded on a quiet machine."""
    project.configure(APP.replace("processes: 1", "processes: 3"))
    project.write(
        test_it="""
        @pytest.mark.end_to_end
        def test_answer(llm_engine):
            llm_engine.generate("hello", max_tokens=4)
        """
    )
    assert project.perf("--llmperf-record").ret == 0
    return project


def test_other_thread_counts_than_the_baselines_are_the_cause_of_a_regression(recorded):
    def two_threads(record):
        record["config"]["n_threads"] = 7
        scale_samples(0.01)(record)

    recorded.edit_baseline(two_threads)
    result = recorded.perf()
    assert recorded.verdicts() == {"test_answer": "regressed"}
    (test,) = recorded.session()["tests"]
    assert test["causes"] == ["llm.n_threads 7 → 1"]
    assert test["differences"][0] == "llm.n_threads 7 → 1"
    assert sum("n_threads" in text for text in test["differences"]) == 1
    assert "caused by the configuration or the build: - llm.n_threads 7 → 1" in all_output(result)


def test_what_differs_from_the_baseline_is_no_cause_of_a_pass(recorded):
    def two_threads(record):
        record["config"]["n_threads"] = 7
        scale_samples(2.0)(record)

    recorded.edit_baseline(two_threads)
    recorded.perf().assert_outcomes(passed=1)
    (test,) = recorded.session()["tests"]
    assert test["causes"] == []
    assert test["differences"][0] == "llm.n_threads 7 → 1"
    assert fitness(recorded)["other_threads"]["severity"] == "warn"


@pytest.mark.usefixtures("quiet_machine")
def test_a_configuration_with_other_threads_is_named_beside_the_base_arm(one_test):
    one_test.configure(APP.replace("n_threads: 1", "n_threads: 2"), "other.yaml")
    one_test.perf("--llmperf-against-config", "other.yaml", *ONE_PAIR)
    finding = fitness(one_test)["other_threads"]
    assert finding["text"] == "llm.n_threads 2 → 1"
    (test,) = one_test.session()["tests"]
    assert test["differences"][0] == "llm.n_threads 2 → 1"


@linux
def test_a_busy_machine_is_waited_for_and_the_wait_is_told(one_test):
    one_test.path.joinpath("toy.py").write_text(STEADY)
    with burning():
        result = one_test.run(
            *("-m", "perf", "--llmperf-json", "out.json", "--llmperf-wait-fit", "1s")
        )
    text = all_output(result)
    assert text.count("waiting up to 1 s for the machine to become quiet: ") == 1
    assert "still busy or hot, measuring anyway: " in text
    assert "(busy_cores)" in text.partition("waiting up to 1 s")[2].partition("llmperf:")[0]
    session = one_test.session()["session"]
    assert session["waited_s"] >= 1.0
    assert any(note.startswith("waited ") for note in session["notes"])


@linux
def test_an_interrupted_wait_ends_as_a_session_ends(one_test):
    one_test.path.joinpath("toy.py").write_text(STEADY)
    command = [sys.executable, "-m", "pytest", "-m", "perf", "--llmperf-wait-fit", "10m"]
    with (
        burning(),
        subprocess.Popen(
            command, cwd=one_test.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as session,
    ):
        assert session.stdout is not None
        for line in session.stdout:
            if "waiting up to 10 min for the machine to become quiet" in line:
                session.send_signal(signal.SIGINT)
                break
        rest = session.stdout.read()
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert "not measured, because the session stopped before: test_it.py::test_answer" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize("text", ["soon", "5", "0s", "-1s"])
def test_a_wrong_time_to_wait_is_a_usage_error(one_test, text):
    result = one_test.here("-m", "perf", f"--llmperf-wait-fit={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*argument --llmperf-wait-fit: expected a duration*"])
    assert not one_test.was_loaded


@pytest.mark.usefixtures("quiet_machine")
def test_a_record_has_no_findings_of_the_other_side(one_test, monkeypatch):
    from pytest_llmperf.machine.fitness import FitnessFinding
    from pytest_llmperf.measure.rounds import Rounds

    original = Rounds._keep
    findings = {
        "base": FitnessFinding("cpu_clock", "warn", "slower and slower"),
        "candidate": FitnessFinding("cpu_governor", "warn", "it saves power"),
    }

    def keep(self, nodeid, halves):
        original(self, nodeid, [replace(half, findings=(findings[half.side],)) for half in halves])

    monkeypatch.setattr(Rounds, "_keep", keep)
    one_test.configure(APP, "other.yaml")
    one_test.perf("--llmperf-record", "--llmperf-against-config", "other.yaml", *ONE_PAIR)
    assert {"cpu_clock", "cpu_governor"} <= fitness(one_test).keys()
    (path,) = one_test.baselines()
    session = json.loads(path.read_text())["session"]
    assert session["fitness"] == {"cpu_governor": "warn"}
    assert session["findings"] == ["it saves power (cpu_governor)"]
