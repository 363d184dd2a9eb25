"""Baselines over several sessions: record, compare, accept, and every way not to match."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from plugin_projects import APP, all_output
from stored_sessions import scale_samples

#: Tolerant enough for a busy machine; edits of the baseline are far beyond it.
TOLERANT = """
@pytest.mark.end_to_end(tolerance="99%")
def test_x(llm_engine):
    llm_engine.generate("a", max_tokens={tokens})
"""


@pytest.fixture(autouse=True)
def _three_processes(project):
    """Measure three processes: fewer call nothing against stored sessions."""
    project.configure(APP.replace("processes: 1", "processes: 3"))


@pytest.fixture
def recorded(project, recording):
    """A project whose baseline was recorded."""
    project.write(test_it=TOLERANT.format(tokens=4))
    project.record_once(recording)
    return project


def test_a_run_without_a_baseline_passes_and_says_how_to_record(one_test):
    result = one_test.here("-m", "perf")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*no baseline*", "*pytest -m perf --llmperf-record"])
    assert one_test.baselines() == []


def test_recording_is_silent_about_nothing(project):
    project.write(test_it=TOLERANT.format(tokens=4))
    project.here("-m", "perf", "--llmperf-record").stdout.fnmatch_lines(["*recorded*"])
    (path,) = project.baselines()
    record = json.loads(path.read_text())
    assert list(record["tests"]) == ["test_it.py::test_x"]


def test_a_second_run_is_compared(recorded):
    result = recorded.perf()
    assert result.ret == 0
    metric = recorded.metric()
    assert metric["verdict"] == "pass"
    (path,) = recorded.baselines()
    assert metric["baseline"]["sources"] == [str(path.relative_to(recorded.path))]


def test_a_slowdown_fails_and_says_metric_amount_baseline_and_remedy(recorded):
    path = recorded.edit_baseline(scale_samples(0.01))
    result = recorded.here("-m", "perf")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "regressed: end to end: *% slower*",
            "*baseline *",
            f"*{path.relative_to(recorded.path)}",
            "to accept the new level:",
            "*-m perf test_it.py::test_x --llmperf-accept *",
        ]
    )


def test_the_accept_command_of_a_failure_works(recorded):
    recorded.edit_baseline(scale_samples(0.01))
    result = recorded.here("-m", "perf")
    (line,) = {line.strip() for line in result.outlines if "--llmperf-accept" in line}
    match = re.search(r"-m perf (\S+) --llmperf-accept", line)
    assert match
    accepting = recorded.here("-m", "perf", match.group(1), "--llmperf-accept", "a better prompt")
    assert accepting.ret == 0
    said = all_output(accepting)
    assert "accepted: later sessions are compared with this session's level, except for" in said
    assert "(a better prompt)" in said
    assert recorded.perf().ret == 0
    assert recorded.metric()["verdict"] == "pass"
    kept = [json.loads(path.read_text())["tests"] for path in recorded.baselines()]
    assert any(tests["test_it.py::test_x"].get("accepted") == "a better prompt" for tests in kept)


def test_an_improvement_says_that_the_baseline_is_stale(recorded):
    recorded.edit_baseline(scale_samples(1000))
    result = recorded.perf()
    assert result.ret == 0
    assert recorded.metric()["verdict"] == "improved"
    assert "stale" in result.stdout.str()


def test_a_rate_is_judged_by_its_direction(project):
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec(tolerance="99%")
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    project.perf("--llmperf-record")
    project.edit_baseline(scale_samples(100))
    assert project.perf().ret == 1
    assert project.metric()["verdict"] == "regressed"


def test_a_regression_that_also_misses_its_target_says_both(project):
    project.write(
        test_it="""
        @pytest.mark.end_to_end(max="1us", tolerance="99%")
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    assert project.perf("--llmperf-record").ret == 1
    assert len(project.baselines()) == 1
    project.edit_baseline(scale_samples(0.01))
    # A target takes at least three processes to decide, and more if other load disturbs one.
    result = project.here("-m", "perf", "--llmperf-set", "perf.processes=6")
    result.stdout.fnmatch_lines(["regressed: end to end:*", "*also missed: target missed*"])


def test_other_work_is_never_compared(recorded):
    recorded.write(test_it=TOLERANT.format(tokens=5))
    recorded.edit_baseline(scale_samples(0.01))
    assert recorded.perf().ret == 0
    assert recorded.metric()["verdict"] == "workload changed"


def test_a_prompt_drawn_at_random_is_told_with_where_it_differs(project):
    asks = """
        @pytest.mark.end_to_end(tolerance="99%")
        def test_x(llm_engine):
            llm_engine.generate("a confidential question about {drawn}", max_tokens=4)
        """
    project.write(test_it=asks.format(drawn="pears"))
    project.perf("--llmperf-record")
    assert "confidential" not in project.baselines()[0].read_text()
    project.write(test_it=asks.format(drawn="plums"))
    project.perf()
    metric = project.metric()
    assert metric["verdict"] == "workload changed"
    assert metric["explanation"] == (
        "the request has another prompt, different from about character 17 on (35 characters in "
        "both); a test must make the same requests every time: fix a random prompt or its seed"
    )
    # A record need not have the digests of its requests.
    project.edit_baseline(lambda record: record["tests"]["test_it.py::test_x"].pop("requests"))
    project.perf()
    assert (
        "other work of the same size (1 request, 4 out), and its file does not say what"
        in (project.metric()["explanation"])
    )


def test_a_test_that_the_baseline_lacks_is_visible(recorded):
    recorded.write(
        test_new="""
        @pytest.mark.perf
        def test_new(llm_engine):
            llm_engine.generate("new")
        """
    )
    result = recorded.perf()
    assert result.ret == 0
    assert recorded.verdicts() == {"test_new": "no baseline", "test_x": "pass"}
    result.stdout.fnmatch_lines(["no baseline for 1 test*"])


@pytest.mark.parametrize("tokens", [None, 5])
def test_a_baseline_can_be_required(project, tokens):
    project.write(test_it=TOLERANT.format(tokens=4))
    if tokens:
        project.perf("--llmperf-record")
        project.write(test_it=TOLERANT.format(tokens=tokens))
    result = project.here("-m", "perf", "--llmperf-require-baseline")
    result.assert_outcomes(failed=1)
    kind = "workload changed" if tokens else "no baseline"
    result.stdout.fnmatch_lines([f"{kind}: end to end: *", "*--llmperf-record"])


def test_a_near_machine_is_named_with_what_differs(recorded):
    recorded.edit_baseline(lambda record: record["machine"]["strict"].update({"usable cores": 96}))
    recorded.move_baseline("another-machine_cpu")
    result = recorded.here("-m", "perf")
    assert result.ret == 0
    text = " ".join(result.outlines)
    assert "the nearest is another-machine_cpu" in text
    assert re.search(r"usable cores: base 96, candidate \d+", text)


def test_a_baseline_of_another_model_is_refused_with_both_values(recorded):
    recorded.edit_baseline(lambda record: record["model"].update(name="toy:other"))
    result = recorded.here("-m", "perf")
    assert result.ret == 0
    text = all_output(result)
    assert "toy:other" in text
    assert "toy:answer" in text
    assert "refused" in text


def test_a_changed_setting_is_shown_beside_the_change(recorded):
    recorded.edit_baseline(scale_samples(0.01))
    result = recorded.here("-m", "perf", "--llmperf-set", "llm.seed=256")
    result.stdout.fnmatch_lines(["what differs from the baseline*", "*llm.seed: 42 * 256*"])


def test_an_invalid_session_does_not_judge_later_ones(recorded):
    def void(record):
        for test in record["tests"].values():
            test["invalid"] = ["a neighbour was busy"]
        scale_samples(0.01)(record)

    recorded.edit_baseline(void)
    assert recorded.perf().ret == 0
    assert recorded.metric()["verdict"] == "no baseline"


def test_two_sessions_record_at_once(project):
    project.write(test_it=TOLERANT.format(tokens=4))
    command = [sys.executable, "-m", "pytest", "-m", "perf", "--llmperf-record", "-q"]
    both = [
        subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(project.baselines()) == 2
    for path in project.baselines():
        json.loads(path.read_text())


def test_accepting_a_level_does_not_accept_a_missed_target(project, quiet_machine):
    project.write(test_it=TOLERANT.format(tokens=4))
    assert project.perf("--llmperf-record").ret == 0
    project.edit_baseline(scale_samples(0.001))
    project.write(test_it=TOLERANT.format(tokens=4).replace("tolerance=", 'max="1us", tolerance='))
    result = project.perf("--llmperf-accept", "why", "--llmperf-set", "perf.processes=6")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*target missed*"])
    assert project.perf("--llmperf-set", "perf.processes=6").ret == 1


def test_a_session_that_ran_out_of_time_takes_no_baseline_away(recorded):
    hurried = recorded.perf("--llmperf-set", "perf.budget=1us", "--llmperf-accept", "why")
    assert hurried.ret == 0
    assert recorded.metric()["verdict"] == "inconclusive"
    assert len(recorded.baselines()) == 2
    assert recorded.perf().ret == 0
    assert recorded.metric()["baseline"]["sessions"] == 1
    (test,) = recorded.session()["tests"]
    assert any("1 stored session left out" in text for text in test["findings"])


def test_the_accept_command_measures_what_failed_from_where_it_failed(recorded):
    recorded.edit_baseline(scale_samples(0.001))
    below = recorded.path / "below"
    below.mkdir()
    recorded.pytester.chdir()
    command = ["-m", "perf", "--llmperf-set", "perf.seed=7", "--rootdir", str(recorded.path)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *command, "-c", "../tox.ini", "../test_it.py"],
        cwd=below,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 1
    (line,) = [text.strip() for text in result.stdout.splitlines() if "--llmperf-accept" in text]
    for part in ("--llmperf-set perf.seed=7", "-c ../tox.ini", " ../test_it.py::test_x "):
        assert part in line


def test_differences_are_told_from_a_session_that_judged_the_test(recorded):
    recorded.write(test_other=TOLERANT.format(tokens=4).replace("test_x", "test_other"))
    newer = ["--llmperf-record", "--llmperf-set", "llm.seed=1", "test_other.py"]
    assert recorded.perf(*newer).ret == 0
    recorded.perf("test_it.py")
    (test,) = recorded.session()["tests"]
    assert not any("llm.seed" in text for text in test["differences"])
