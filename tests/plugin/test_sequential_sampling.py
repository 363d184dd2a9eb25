"""Sampling continues with undecided tests until all are decided or a limit is reached."""

from __future__ import annotations

import pytest
from plugin_projects import APP, all_output, app_config

pytestmark = pytest.mark.usefixtures("quiet_machine")

#: For "noisy" a side is in turn six times slower than the other, six times faster and as fast;
#: for "uneven" a side alone varies from process to process. No measurement proves anything.
NOISY = """
import pathlib, time

started = pathlib.Path("started")
number = len(started.read_text()) if started.exists() else 0
started.write_text("x" * (number + 1))
# The body's process is the first.
pair = (number - 1) // 2

def say(prompt, max_tokens, delays):
    with pathlib.Path("asked").open("a") as log:
        log.write(prompt + "\\n")
    delay = {"noisy": delays[pair % 3], "uneven": delays[number % 3]}.get(prompt, 0.002)
    for word in range(max_tokens):
        time.sleep(delay)
        yield "word "

def answer(prompt, max_tokens=4):
    yield from say(prompt, max_tokens, (0.006, 0.001, 0.0025))

def other(prompt, max_tokens=4):
    yield from say(prompt, max_tokens, (0.001, 0.006, 0.0025))
"""

TWO = """
@pytest.mark.end_to_end(tolerance="50%")
def test_steady(llm_engine):
    llm_engine.generate("steady", max_tokens=4)

@pytest.mark.end_to_end(tolerance="50%")
{marker}
def test_noisy(llm_engine):
    llm_engine.generate("noisy", max_tokens=4)
"""


@pytest.fixture
def noisy(project):
    """A project whose second test needs more pairs than the maximum."""
    project.pytester.makepyfile(toy=NOISY)
    project.write(test_it=TWO.format(marker=""))
    project.configure(APP + "  max_pairs: 6\n")
    project.configure(app_config("toy:other"), "other.yaml")
    return project


def compare(project, *args: str) -> pytest.RunResult:
    """Run a session that compares the two sides."""
    return project.perf("--llmperf-against-config", "other.yaml", *args)


def test_a_decided_test_takes_no_part_in_later_rounds(noisy):
    compare(noisy)
    assert noisy.verdicts() == {"test_steady": "pass", "test_noisy": "inconclusive"}
    pairs = noisy.sampled()
    assert 3 <= pairs["test_steady"] < pairs["test_noisy"]
    asked = noisy.path.joinpath("asked").read_text().split()
    # The body, then in each process of both sides two to four warm-ups and three iterations.
    for name, count in (("steady", pairs["test_steady"]), ("noisy", pairs["test_noisy"])):
        assert 1 + 2 * count * 5 <= asked.count(name) <= 1 + 2 * count * 7


def test_the_most_pairs_end_a_test(noisy):
    result = compare(noisy, "-k", "noisy")
    assert noisy.sampled() == {"test_noisy": 6}
    result.stdout.fnmatch_lines(["*maximum number of pairs*"])


def test_a_missed_target_does_not_end_the_comparison(noisy):
    noisy.write(
        test_it="""
        @pytest.mark.end_to_end(max="1us", tolerance="50%")
        def test_noisy(llm_engine):
            llm_engine.generate("noisy", max_tokens=4)
        """
    )
    compare(noisy, "--llmperf-set", "perf.max_pairs=9")
    assert noisy.verdicts() == {"test_noisy": "missed"}
    assert noisy.sampled() == {"test_noisy": 9}


def test_the_most_processes_end_a_test_whose_target_lies_within_the_noise(noisy):
    noisy.write(
        test_it="""
        @pytest.mark.end_to_end(max="10ms")
        def test_uneven(llm_engine):
            llm_engine.generate("uneven", max_tokens=4)
        """
    )
    noisy.perf("--llmperf-set", "perf.max_processes=5")
    assert noisy.verdicts() == {"test_uneven": "inconclusive"}
    assert noisy.sampled() == {"test_uneven": 5}


def test_a_target_far_off_is_decided_in_few_processes(noisy):
    noisy.write(
        test_it="""
        @pytest.mark.end_to_end(max="10s")
        def test_steady(llm_engine):
            llm_engine.generate("steady", max_tokens=4)
        """
    )
    noisy.perf("--llmperf-set", "perf.processes=3")
    assert noisy.sampled() == {"test_steady": 3}


@pytest.mark.parametrize("where", ["marker", "configuration"])
def test_a_test_s_budget_ends_that_test_only(noisy, where):
    if where == "marker":
        marker = "@pytest.mark.perf(budget='1ms')"
        noisy.write(test_it=TWO.format(marker=marker))
        result = compare(noisy)
        assert noisy.verdicts()["test_steady"] == "pass"
    else:
        result = compare(noisy, "--llmperf-set", "perf.test_budget=1ms")
    assert noisy.verdicts()["test_noisy"] == "inconclusive"
    assert noisy.sampled()["test_noisy"] < 3
    result.stdout.fnmatch_lines(["*budget*"])


def test_the_marker_s_budget_wins_over_the_configuration_s(noisy):
    noisy.write(test_it=TWO.format(marker="@pytest.mark.perf(budget='1h')"))
    compare(noisy, "--llmperf-set", "perf.test_budget=1ms", "-k", "noisy")
    assert noisy.sampled() == {"test_noisy": 6}


def test_the_session_s_budget_ends_everything_and_says_what_would_decide(noisy):
    result = compare(noisy, "--llmperf-set", "perf.budget=8s", "--llmperf-set", "perf.max_pairs=99")
    assert "inconclusive" in noisy.verdicts().values()
    assert max(noisy.sampled().values()) < 99
    said = all_output(result)
    assert "budget" in said
    assert "would decide" in said


@pytest.mark.parametrize(
    ("decorator", "says"),
    [
        ("@pytest.mark.perf(budget='soon')", "*'perf' budget: expected a duration*'soon'*"),
        ("@pytest.mark.perf(budget=0)", "*'perf' budget: expected more than 0*"),
        ("@pytest.mark.perf(budgt='1s')", "*'perf'*'budgt'*did you mean 'budget'*"),
    ],
)
def test_a_wrong_budget_is_refused(project, decorator, says):
    project.write(test_it=f"{decorator}\ndef test_x(llm_engine): pass\n")
    stderr = project.check_refused()
    stderr.fnmatch_lines([f"ERROR: llmperf: test_it.py::test_x: marker {says[1:]}"])
