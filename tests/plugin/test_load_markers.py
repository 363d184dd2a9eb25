"""The markers ``load`` and ``goodput``: what they refuse before any server is asked."""

from __future__ import annotations

import json

import pytest
from plugin_projects import all_output

SERVER = json.dumps({"llm": {"engine": "server", "url": "http://127.0.0.1:9", "model": "m"}})
LOAD = "@pytest.mark.load(concurrency=2, requests=8)\n"


def refusal(project, markers: str, config: str = SERVER) -> str:
    """Return the output of a session that must refuse these markers before any test runs."""
    project.configure(config)
    project.write(test_it=f"{markers}\ndef test_it(llm_engine):\n    llm_engine.generate('Hi')")
    result = project.here("-m", "perf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return all_output(result)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("8", "takes its numbers by name: load(concurrency=8)"),
        ("concurency=8", "unknown argument 'concurency'; did you mean 'concurrency'?"),
        ("requests=8", "needs exactly one of concurrency=8 (requests in flight), rate="),
        ("concurrency=8, rate=4, requests=8", "but has concurrency and rate"),
        ("concurrency=8", "a load needs an end: set requests or duration"),
        ("concurrency=0, requests=8", "concurrency: expected a whole number of 1 or more, got 0"),
        ("concurrency=8, requests=4", "has requests=4, fewer than the 8 in flight"),
        ("concurrency=2, requests=8, arrivals='poisson'", "arrivals= goes with rate="),
        ("rate='4/h', requests=8", "rate: expected a rate such as 4 or '4/s', got '4/h'"),
        ("rate=0, requests=8", "rate: expected requests per second above 0"),
        ("rate=4, requests=8, arrivals='even'", "expected 'poisson' or 'constant', got 'even'"),
        ("rate=4, duration='30'", "duration: expected a duration such as 500ms, 5s"),
        ("rate=4, duration=0", "duration: expected more than 0"),
        ("rate=4, requests=8, max_errors=5", "max_errors: expected a percentage such as 5%"),
        ("rate=4, requests=8, over_saturated='ok'", "over_saturated: expected 'note', 'warn' or"),
        ("trace='no.jsonl'", "no.jsonl: can't be read"),
        ("trace=3", "trace: expected the name of a file, got 3"),
        ("trace='no.jsonl', requests=8", "has trace= and requests="),
    ],
)
def test_a_wrong_load_is_refused(project, arguments, problem):
    said = refusal(project, f"@pytest.mark.load({arguments})")
    assert f"marker 'load' {problem}" in said or problem in said
    assert "test_it.py" in said


def test_a_trace_with_a_wrong_line_is_refused_by_its_line(project):
    (project.path / "trace.jsonl").write_text('{"at": 0}\n{"at": "soon"}\n')
    said = refusal(project, "@pytest.mark.load(trace='trace.jsonl')")
    assert "trace.jsonl: line 2: at: expected seconds from the start, got 'soon'" in said


def test_an_engine_that_answers_one_request_at_a_time_takes_no_load(project):
    config = "llm:\n  engine: app\n  target: toy:answer\n"
    said = refusal(project, LOAD, config)
    assert "marker 'load' needs an engine that answers several requests at a time" in said
    assert "app answers one; set llm.engine: server" in said


@pytest.mark.parametrize(
    "marker",
    ["goodput(first_token='1s', min='95%')", "requests_per_sec(min=2)", "error_rate(max='1%')"],
)
def test_what_only_a_load_has_needs_one(project, marker):
    said = refusal(project, f"@pytest.mark.{marker}")
    assert "judges a load; add the marker load(concurrency=8, requests=64)" in said


@pytest.mark.parametrize(
    ("marker", "instead"),
    [("end_to_end(max='5s')", "request_latency"), ("stall_rate(max='20%')", "request_latency")],
)
def test_what_says_nothing_about_a_load_is_refused(project, marker, instead):
    said = refusal(project, f"{LOAD}@pytest.mark.{marker}")
    assert "says nothing about a load; judge" in said
    assert instead in said


def test_goodput_needs_the_latencies_of_a_good_answer(project):
    said = refusal(project, f"{LOAD}@pytest.mark.goodput(min='95%')")
    assert "needs the latencies of a good answer: goodput(first_token='500ms', min='95%')" in said


def test_a_goodput_limit_must_be_a_duration(project):
    said = refusal(project, f"{LOAD}@pytest.mark.goodput(first_token='fast', min='95%')")
    assert "marker 'goodput' first_token: expected a duration" in said


def test_contradicting_loads_of_one_test_are_refused(project):
    said = refusal(project, f"{LOAD}@pytest.mark.load(concurrency=4, requests=8)")
    assert "marker 'load' contradicts another marker of the same name on this test" in said


FEW = "@pytest.mark.load(concurrency=2, requests=64)\n@pytest.mark.first_token(percentile=95)"


def test_a_percentile_that_all_loads_together_can_not_have_is_refused(project):
    said = refusal(project, FEW)
    assert (
        "first token p95 needs 8 groups of 100 requests, but 12 loads of 64 requests provide "
        "fewer; send 100 requests or more, raise perf.max_processes, or ask for a lower percentile"
    ) in said


def test_a_comparison_has_the_loads_of_all_its_pairs(project):
    project.configure(SERVER, "other.yaml")
    few = FEW.replace("64", "19")
    project.write(test_it=f"{few}\ndef test_it(llm_engine):\n    llm_engine.generate('Hi')")
    project.configure(SERVER)
    result = project.here("-m", "perf", "--llmperf-against-config", "other.yaml")
    said = " ".join(" ".join(result.errlines).split())
    assert "40 loads of 19 requests provide fewer; send 20 requests or more, raise perf.max" in said


@pytest.mark.parametrize(
    ("perf", "requests", "text"),
    [
        ("{processes: 16}", 49, "16 loads of 49 requests provide fewer; send 50 requests or more"),
        ("{max_processes: 7}", 999, "7 loads of 999 requests provide fewer; raise perf.max_proc"),
    ],
)
def test_a_percentile_needs_whole_groups_of_loads(project, perf, requests, text):
    config = f'{SERVER[:-1]}, "perf": {perf}}}'
    assert text in refusal(project, FEW.replace("64", str(requests)), config)


def test_a_percentile_among_the_configured_targets_needs_them_too(project):
    config = json.dumps(json.loads(SERVER) | {"perf": {"targets": {"first_token_p95": "1s"}}})
    assert "first token p95 needs 8 groups of 100 requests" in refusal(project, LOAD, config)
