"""``llmperf tune`` of a server that it starts: arguments of its command, and loads."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_models import tiny_llama
from tune_projects import COMMAND

import pytest_llmperf as perf
from pytest_llmperf.engine.request import Request
from pytest_llmperf.measure.load_pattern import LoadPattern
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.session.context import SessionContext
from pytest_llmperf.session.machine_watch import FitWait
from pytest_llmperf.session.recorded import RecordedTest, checks_of_test
from pytest_llmperf.tune.errors import TuneError
from pytest_llmperf.tune.objective import objective_of
from pytest_llmperf.tune.request import TuneRequest
from pytest_llmperf.tune.run import TuneRun

SUPPORT = Path(__file__).parent.parent / "support"
#: A request takes 34 ms; the argument ``--slots`` says how many are answered at a time.
PLAN = json.dumps({"first": 0.02, "gap": 0.002, "cached": 0})
SIMULATOR = f"{{python}} {shlex.quote(str(SUPPORT / 'server_simulator.py'))} --port {{port}}"
START = f"{SIMULATOR} --plan {shlex.quote(PLAN)}"
#: A busy machine makes this client late as well, so lateness is only noted.
FITNESS = {"client_slip": "note", "rate_not_reached": "note"}
TEST = """
import pytest

@pytest.mark.load({load})
{markers}
def test_load(llm_engine):
    llm_engine.generate("Hello there", max_tokens=8)
"""


def configure(folder: Path, space: dict[str, Any], **llm: Any) -> str:
    """Write a config.yaml for a server that llmperf starts; return its text."""
    section = {"engine": "server", "start": START, "api": "completions", **llm}
    quick = {"processes": 2, "max_pairs": 8, "turns": "processes", "fitness": FITNESS}
    tune = {"space": space, "budget": "90s"}
    text = "# mine\n" + yaml.safe_dump({"llm": section, "perf": quick, "tune": tune})
    (folder / "config.yaml").write_text(text)
    return text


def write(project: pytest.Pytester, load: str, *markers: str) -> None:
    lines = "\n".join(f"@pytest.mark.{marker}" for marker in markers)
    project.makepyfile(test_caches=TEST.format(load=load, markers=lines))


def test_more_slots_are_found_proven_and_applied(project: pytest.Pytester) -> None:
    old = configure(project.path, {"extra.slots": [1, 4]}, extra={"slots": 1})
    limits = "goodput(first_token='45ms', min='90%')"
    write(project, "concurrency=4, requests=16", limits, "output_tokens_per_sec(min=1)")
    options = ("--phase", "1", "--json", "out.json")
    result = project.run(*COMMAND, *options, timeout=170)
    assert result.ret == 0, result.stderr.str()
    written = json.loads((project.path / "out.json").read_text())
    assert written["improved"], written["conclusion"]
    assert written["winner"]["changed"] == {"extra.slots": 4}
    states = {t["metric"]: (t["before"], t["after"]) for t in written["targets"]}
    assert states == {"goodput": ("missed", "met"), "output_tokens_per_sec": ("met", "met")}
    shown = {gain["change"]["metric"] for gain in written["confirmed"]["gains"]}
    assert {"request_latency", "output_tokens_per_sec", "requests_per_sec", "goodput"} <= shown
    result.stdout.fnmatch_lines(
        ["settings to use", "llm:", "  extra:", "    slots: 4", "to start the server with them:"]
    )
    apply, command = (line.strip() for line in result.outlines[-3:] if line.startswith("  "))
    assert command == f"{START} --slots 4"
    applied = project.run(*COMMAND[:-1], *shlex.split(apply)[1:], timeout=60)
    assert applied.ret == 0
    applied.stdout.fnmatch_lines(["-    slots: 1", "+    slots: 4", "settings written to *"])
    assert f"the server's command: {START} --slots 4" in applied.stdout.str()
    assert (project.path / "config.yaml").read_text() == old.replace("slots: 1", "slots: 4")


def test_speed_is_given_up_for_a_missed_target_and_the_cost_is_named(
    project: pytest.Pytester,
) -> None:
    today, other = (
        json.dumps({"first": first, "gap": gap, "cached": 0})
        for first, gap in ((0.08, 0.002), (0.01, 0.006))
    )
    configure(project.path, {"extra.plan": [today, other]}, start=SIMULATOR, extra={"plan": today})
    limits = ("first_token(max='40ms')", "tokens_per_sec(min=40)")
    markers = "\n".join(f"@pytest.mark.{limit}" for limit in limits)
    project.makepyfile(test_caches=TEST.replace("@pytest.mark.load({load})\n{markers}", markers))
    result = project.run(*COMMAND, "--phase", "1", "--json", "out.json", timeout=170)
    assert result.ret == 0, result.stderr.str()
    written = json.loads((project.path / "out.json").read_text())
    assert written["winner"]["changed"] == {"extra.plan": other}, written["conclusion"]
    states = {t["metric"]: (t["before"], t["after"]) for t in written["targets"]}
    assert states == {"first_token": ("missed", "met"), "tokens_per_sec": ("met", "met")}
    assert written["conclusion"].startswith("improved: first token ")
    assert ", at a cost: tokens/s " in written["conclusion"]
    assert written["conclusion"].endswith(", still above its target of 40 tok/s")


def test_a_server_that_can_not_keep_up_is_where_a_search_begins(project: pytest.Pytester) -> None:
    # One slot answers 59 requests a second, 32 slots 1,900.
    plan = json.dumps({"first": 0.01, "gap": 0.001, "cached": 0})
    today = {"slots": 1, "plan": plan}
    configure(project.path, {"extra.slots": [1, 32]}, start=SIMULATOR, extra=today)
    write(project, "rate=200, arrivals='constant', requests=100")
    result = project.run(*COMMAND, "--phase", "1", "--json", "out.json", timeout=170)
    assert result.ret == 0, result.stderr.str()
    written = json.loads((project.path / "out.json").read_text())
    assert written["objective"] == ["request_latency"]
    assert written["winner"]["changed"] == {"extra.slots": 32}, written["conclusion"]


def test_where_no_argument_helps_nothing_is_claimed(project: pytest.Pytester) -> None:
    configure(project.path, {"extra.metrics": [None, "vllm"]})
    write(project, "concurrency=2, requests=8")
    options = ("--json", "out.json", "--set", "tune.min_gain=50%")
    result = project.run(*COMMAND, *options, timeout=170)
    assert result.ret == 0, result.stderr.str()
    written = json.loads((project.path / "out.json").read_text())
    assert (written["winner"], written["objective"]) == (None, ["output_tokens_per_sec"])
    assert written["conclusion"].startswith("no proven improvement")
    assert [point["settings"] for point in written["points"]] == [{"extra.metrics": "vllm"}]


def test_a_real_server_is_searched_one_request_at_a_time(project: pytest.Pytester) -> None:
    words = [str(SUPPORT / "llama_server.py"), "--model", str(tiny_llama())]
    start = f"{{python}} {shlex.join(words)} --port {{port}}"
    space = {"extra": {"parallel": [1, 2], "threads": ["two"]}}
    configure(project.path, space, start=start, extra={"parallel": 1})
    options = ("--prompt", "A question", "--max-tokens", "8", "--phase", "1", "--json", "out.json")
    # Which of them is faster does not matter here.
    options += ("--set", "tune.min_gain=50%", "--set", "perf.max_pairs=3")
    result = project.run(*COMMAND, *options, timeout=170)
    assert result.ret == 0, result.stderr.str()
    written = json.loads((project.path / "out.json").read_text())
    assert written["objective"] == ["end_to_end"]
    points = {json.dumps(point["settings"]): point for point in written["points"]}
    assert points['{"extra.parallel": 2}']["outcome"] in ("measured", "lost")
    refused = points['{"extra.threads": "two"}']
    assert refused["outcome"] == "unsupported"
    assert "argument --threads: invalid int value: 'two'" in refused["reason"]


def test_a_load_that_is_void_is_a_point_with_its_reason(project: pytest.Pytester) -> None:
    space = {"extra.plan": ['{"first": 0.02, "cached": 3}'], "extra.no-such": [1]}
    configure(project.path, space, start=SIMULATOR, extra={"plan": PLAN})
    write(project, "concurrency=2, requests=8")
    result = project.run(*COMMAND, "--phase", "1", "--json", "out.json", timeout=170)
    assert result.ret == 0, result.stderr.str()
    points = json.loads((project.path / "out.json").read_text())["points"]
    found_by = {tuple(point["settings"]): point for point in points}
    cached, refused = found_by["extra.plan",], found_by["extra.no-such",]
    assert cached["outcome"] == "failed"
    assert "prompts were served from a cache, such as 3 of 5 tokens" in cached["reason"]
    assert refused["outcome"] == "unsupported"
    assert "unrecognized arguments: --no-such 1" in refused["reason"]


def test_a_server_that_hangs_is_a_point_and_the_next_one_is_measured(
    project: pytest.Pytester,
) -> None:
    hung, other = ('{"first": 60, "cached": 0}', '{"first": 0.03, "gap": 0.002, "cached": 0}')
    space = {"extra.plan": [hung, other]}
    configure(project.path, space, start=SIMULATOR, extra={"plan": PLAN}, load_timeout="8s")
    options = ("--prompt", "A question", "--max-tokens", "8", "--phase", "1", "--json", "out.json")
    result = project.run(*COMMAND, *options, timeout=170)
    assert result.ret == 0, result.stderr.str()
    first, second = json.loads((project.path / "out.json").read_text())["points"]
    assert (first["settings"], first["outcome"]) == ({"extra.plan": hung}, "unsupported")
    assert first["reason"].startswith("the server does not answer a first request: ")
    assert "not finished in " in first["reason"]
    assert second["outcome"] in ("measured", "lost")


def _tuning(folder: Path, space: dict[str, Any], **llm: Any) -> TuneRun:
    configure(folder, space, **llm)
    return TuneRun(SessionContext(perf.configuration(), FitWait()), TuneRequest())


@pytest.mark.parametrize(
    ("space", "llm", "message"),
    [
        ({}, {}, r"what arguments the server takes; name .* \{extra.parallel: .*max-num-seqs"),
        ({"n_batch": [1]}, {}, "tune.space: n_batch: not an argument of a server; name arguments"),
        ({"extra.port": [1]}, {}, "tune.space: extra.port: llm.start has --port already; keep one"),
        ({"extra.api-key": ["a"]}, {}, "tune.space: extra.api-key: holds a key"),
        ({"extra.x": [1, [2]]}, {}, "tune.space: extra.x: expected true, a number or text"),
        (
            {"extra.slots": [1]},
            {"start": None, "url": "http://a"},
            "llm.url names a running server; start the server with llm.start instead",
        ),
    ],
)
def test_what_can_not_be_searched_is_said_before_a_server_is_started(
    folder: Path, space: dict[str, Any], llm: dict[str, Any], message: str
) -> None:
    with pytest.raises(TuneError, match=message):
        _tuning(folder, space, **llm).check()


def test_models_of_another_engine_are_refused(folder: Path) -> None:
    tuning = _tuning(folder, {"extra.slots": [1]})
    tuning.check()
    text = Path("config.yaml").read_text()
    Path("config.yaml").write_text(text.replace("tune:", "tune:\n  models: [a.gguf]"))
    tuning = TuneRun(SessionContext(perf.configuration(), FitWait()), TuneRequest())
    with pytest.raises(TuneError, match=r"tune\.models: a server loads the model that its command"):
        tuning.check()


@pytest.mark.parametrize(
    ("load", "targets", "metrics"),
    [
        ({"arrivals": "closed", "concurrency": 2, "requests": 4}, {}, ["output_tokens_per_sec"]),
        ({"arrivals": "poisson", "rate": 2.0, "requests": 4}, {}, ["request_latency"]),
        # A load has no end-to-end time, and without limits no goodput.
        (
            {"arrivals": "constant", "rate": 2.0, "requests": 4},
            {"end_to_end": 1.0, "goodput": 0.9},
            ["request_latency"],
        ),
        ({}, {"request_latency": 1.0}, ["end_to_end"]),
        (
            {"arrivals": "closed", "concurrency": 2, "requests": 4, "limits": {"first_token": 1.0}},
            {"goodput": 0.9, "first_token": 0.5},
            ["first_token", "goodput"],
        ),
    ],
)
def test_the_objective_of_a_load(
    load: dict[str, Any], targets: dict[str, float], metrics: list[str]
) -> None:
    request = RecordedRequest(Request(prompt="hi", max_tokens=8), (), None, 8)
    workload = Workload((request,), LoadPattern(**load))
    checks = checks_of_test({}, targets, 0.05)
    objective = objective_of([RecordedTest("test", workload, 1.0, checks)], {})
    assert sorted(objective.metrics) == metrics
