"""``--llmperf-against-config``: two configurations run interleaved, one judged by the other."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from plugin_projects import APP, REAL, all_output, app_config
from stored_sessions import scale_samples

pytestmark = pytest.mark.usefixtures("quiet_machine")

#: The toys differ by a factor of three, far beyond this tolerance whatever the machine does.
TEST = """
@pytest.mark.end_to_end(tolerance="50%")
def test_x(llm_engine):
    llm_engine.generate("a", max_tokens=4)
"""
AGAINST = ("--llmperf-against-config", "other.yaml")
#: For tests in which the verdict does not matter.
TWO_PAIRS = ("--llmperf-set", "perf.max_pairs=2")


@pytest.fixture
def two(project):
    """A project with one test and a second configuration, the same as the first."""
    project.write(test_it=TEST)
    project.configure(APP, "other.yaml")
    return project


def test_the_slower_side_is_regressed(two):
    two.configure(app_config("toy:slow"))
    result = two.perf(*AGAINST)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert two.verdicts() == {"test_x": "regressed"}
    result.stdout.fnmatch_lines(["regressed: end to end: *slower*", "*pairs with other.yaml*"])


def test_the_same_configuration_passes(two):
    result = two.perf(*AGAINST)
    assert result.ret == 0
    assert two.verdicts() == {"test_x": "pass"}


def test_the_faster_side_is_improved(two):
    two.configure(app_config("toy:slow"), "other.yaml")
    # Three pairs on a busy machine prove that it is no slower, and not always that it is faster.
    assert two.perf(*AGAINST, "--llmperf-set", "perf.processes=5").ret == 0
    assert two.verdicts() == {"test_x": "improved"}


def test_too_few_pairs_to_call_anything_are_told_before_and_after(two):
    few = ("--llmperf-set", "perf.max_pairs=3")
    said = all_output(two.perf(*AGAINST, *few))
    note = (
        "perf.max_pairs is 3: at least 6 pairs are needed to report a slowdown, so this session "
        "can't report one"
    )
    assert said.count(note) == 2
    assert said.index("measuring") < said.index(note) < said.index("1 passed")


def test_both_sides_are_measured_as_often(two):
    two.perf(*AGAINST)
    pairs = two.sampled()["test_x"]
    assert pairs >= 3
    # The body, and in each process of either side at least two warm-ups and three iterations.
    assert len(two.path.joinpath("calls").read_text()) >= 1 + 2 * pairs * 5


def test_a_regression_and_a_missed_target_are_both_told(two):
    two.write(test_it=TEST.replace("(tolerance", "(max='1us', tolerance"))
    two.configure(app_config("toy:slow"))
    two.perf(*AGAINST)
    metric = two.metric()
    assert metric["verdict"] == "regressed"
    assert {"regressed", "missed"} <= {reason["verdict"] for reason in metric["reasons"]}


def test_stored_baselines_are_not_asked(two):
    assert two.perf("--llmperf-record").ret == 0
    two.edit_baseline(scale_samples(0.01))
    two.perf(*AGAINST)
    assert two.verdicts() == {"test_x": "pass"}
    assert two.session()["session"]["baselines"] == []


def test_what_differs_is_printed(two):
    two.configure(app_config("toy:slow"))
    result = two.here("-m", "perf", *AGAINST, *TWO_PAIRS)
    said = all_output(result)
    assert "other.yaml" in said
    assert "llm.target: base toy:answer, candidate toy:slow" in said


def test_settings_of_the_command_line_hold_for_this_side_only(two):
    result = two.perf(*AGAINST, "--llmperf-set", "llm.target=toy:slow")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert two.verdicts() == {"test_x": "regressed"}


def test_settings_of_the_environment_hold_for_both_sides(two, monkeypatch):
    two.configure(app_config("toy:slow"), "other.yaml")
    monkeypatch.setenv("LLMPERF_LLM__TARGET", "toy:answer")
    two.perf(*AGAINST)
    assert two.verdicts() == {"test_x": "pass"}


def test_recording_stores_this_side(two):
    two.configure(app_config("toy:slow"), "other.yaml")
    two.perf(*AGAINST, *TWO_PAIRS, "--llmperf-record")
    (path,) = two.baselines()
    record = json.loads(path.read_text())
    stored = record["tests"]["test_it.py::test_x"]["metrics"]["end_to_end"]["samples"]
    measured = two.metric()["samples"]
    # Records keep seven digits.
    assert stored == [pytest.approx(row, rel=1e-5) for row in measured]
    assert record["config"]["target"] == "toy:answer"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "*other.yaml: no such file*"),
        ("llm: {engine: app, target: 'toy:slow', n_batsh: 5}\n", "*other.yaml:1: llm.n_batsh:*"),
        ("llm: [\n", "*other.yaml:*"),
        ("llm: {model_path: models/none.gguf}\n", "*other.yaml*models/none.gguf*"),
    ],
    ids=["missing", "unknown key", "broken", "no model"],
)
def test_a_configuration_that_cannot_be_used_is_refused_before_loading(two, content, says):
    two.path.joinpath("other.yaml").unlink()
    if content is not None:
        two.configure(content, "other.yaml")
    two.check_refused(*AGAINST).fnmatch_lines([f"ERROR: llmperf: {says}"])


def test_an_engine_of_the_other_side_that_does_not_start_is_an_error_that_names_it(two):
    two.configure(app_config("nowhere:answer"), "other.yaml")
    result = two.perf(*AGAINST)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert two.verdicts() == {"test_x": "error"}
    result.stdout.fnmatch_lines(["error: *base (other.yaml): *nowhere:answer*"])


def test_other_work_of_the_other_side_is_shown_and_not_compared(two):
    two.pytester.makepyfile(
        toy="""
        def answer(prompt):
            yield from "four"

        def slow(prompt):
            yield from "two"
        """
    )
    two.configure(app_config("toy:slow"), "other.yaml")
    result = two.perf(*AGAINST)
    assert result.ret == pytest.ExitCode.OK
    assert two.verdicts() == {"test_x": "workload changed"}
    (test,) = two.session()["tests"]
    metric = test["metrics"][0]
    assert metric["baseline"]["value"] > 0
    assert metric["change"] is None
    result.stdout.fnmatch_lines(["*other.yaml measured 1 request, 3 out: a different workload*"])


def test_the_command_to_run_again_compares_again(two):
    two.configure(app_config("nowhere:answer"), "other.yaml")
    result = two.here("-m", "perf", *AGAINST)
    result.stdout.fnmatch_lines(["*-m perf --llmperf-against-config other.yaml test_it.py::test_x"])


def test_several_workers_refuse_to_compare(two):
    result = two.run("-m", "perf", "-n", "2", *AGAINST)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: llmperf: --llmperf-against-config: nothing is measured*"])


#: Each process notes every answer. It sleeps before each token, so that even on a busy machine
#: the first pair doesn't contradict the others, which would make more pairs run one by one.
NOTING = """
import os
import time

def answer(prompt, max_tokens=4):
    with open("answered", "a") as answered:
        answered.write(f"{os.getpid()} ")
    for number in range(max_tokens):
        time.sleep(0.02)
        yield f"word{number} "
"""


def alternations(two) -> list[int]:
    """Return how often the answering process changes within each pair, the body's left out."""
    pids = two.path.joinpath("answered").read_text().split()[1:]
    order = list(dict.fromkeys(pids))
    pairs = [[pid for pid in pids if pid in order[at : at + 2]] for at in range(0, len(order), 2)]
    return [sum(a != b for a, b in pairwise(pair)) for pair in pairs]


@pytest.mark.parametrize(
    ("turns", "changes"),
    # Two warm-ups or more of either, then ABBAAB: they meet after 3 of 6.
    [("iterations", {3, 4}), ("auto", {1}), ("processes", {1})],
)
def test_applications_take_turns_by_iterations_where_they_are_allowed_to(
    two, exact_replays, turns, changes
):
    two.write(toy=NOTING)
    pairs = ("--llmperf-set", "perf.processes=3", "--llmperf-set", "perf.max_pairs=3")
    two.perf(*AGAINST, "--llmperf-set", f"perf.turns={turns}", *pairs)
    first, *others = alternations(two)
    assert first == 1
    assert len(others) >= 2
    assert {min(count, 4) for count in others} <= changes


def test_the_real_engine_takes_turns_on_a_cpu(two, exact_replays, measured):
    two.write(test_it=TEST.replace("50%", "90%"))
    two.configure(REAL)
    two.configure(REAL, "other.yaml")
    result = two.here("-m", "perf", *AGAINST, "--llmperf-set", "perf.processes=3")
    assert result.ret == 0
    ((plan, samples),) = measured
    # The announced time is based on turns of tokens.
    assert plan.turns == "tokens"
    ways = {process.pair: process.turns is not None for process in samples.processes}
    assert [ways[pair] for pair in range(3)] == [False, True, True]
    for process in samples.processes:
        for metric in ("tokens_per_sec", "first_token", "end_to_end"):
            assert process.turns is None or process.turns.has(metric)
