"""Whole sessions of ``pytest -m perf`` beside a stand-in card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.config.embedded import cache_dir

CACHE = cache_dir()
#: An application that is on the card from its start, and changes the card as prompts ask it to.
TOY = """
import os, time
from pathlib import Path

CARD = Path(os.environ["LLMPERF_NVML_SCENARIO"])

def tell(line):
    other = CARD.with_suffix(f".{os.getpid()}")
    other.write_text(CARD.read_text() + line + "\\n")
    other.replace(CARD)

tell(f"tenant 0 {os.getpid()} {os.environ.get('HELD', '5368709120')} python")

def answer(prompt, max_tokens=4):
    with open("calls", "a") as calls:
        calls.write("x")
        count = calls.tell()
    # Not in the test's body, nor while warming up.
    if prompt.startswith("card: ") and count == 3:
        tell(prompt.removeprefix("card: "))
    for number in range(max_tokens):
        time.sleep(0.01)
        yield f"word{number} "
"""
CONFIG = """
llm: {engine: app, target: "toy:answer", n_threads: 1, n_threads_batch: 1}
perf: {processes: 1, max_processes: 1, iterations: 3, warmup_max: 1}
"""
INI = """
[pytest]
addopts = -p no:hypothesispytest
asyncio_default_fixture_loop_scope = function
"""
#: A limit is judged from three processes on.
THREE = ("processes: 1, max_processes: 1", "processes: 3, max_processes: 6")
#: Ignores what else runs on the machine; machine_watch still judges the cards.
QUIET = """
from pytest_llmperf.session import machine_watch

machine_watch.judge = lambda *_: []
"""


class Session:
    """A project with one perf test beside the card, and the report of its last session."""

    def __init__(self, pytester: pytest.Pytester, card: Card) -> None:
        self._pytester = pytester
        self.card = card
        pytester.makeini(INI)
        pytester.makepyfile(toy=TOY, conftest=QUIET)
        pytester.path.joinpath("config.yaml").write_text(CONFIG)
        self.report: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        return self._pytester.path

    def configure(self, old: str, new: str) -> None:
        """Replace a part of the configuration."""
        path = self.path / "config.yaml"
        path.write_text(path.read_text().replace(old, new))

    def run(
        self,
        text: str,
        *markers: str,
        prompt: str = "hi",
        tokens: int = 30,
        args: tuple[str, ...] = (),
    ) -> pytest.RunResult:
        """Run the test, with these markers, beside a card of this scenario.

        Sampling while decoding needs ``tokens`` enough for a sampler that is slowed down.
        """
        self.card.set(text)
        marked = "".join(f"@pytest.mark.{marker}\n" for marker in markers)
        self._pytester.makepyfile(
            test_it=f"import pytest\n\n{marked}def test_it(llm_engine):\n"
            f"    llm_engine.generate({prompt!r}, max_tokens={tokens})\n"
        )
        result = self._pytester.runpytest_subprocess(
            "-m", "perf", "--llmperf-json", "out.json", *args, timeout=100
        )
        self.report = json.loads(self.path.joinpath("out.json").read_text())
        return result

    def metric(self, name: str) -> dict[str, Any]:
        """Return a metric of the test from the report."""
        (match,) = [m for m in self.report["tests"][0]["metrics"] if m["name"] == name]
        return dict(match)


@pytest.fixture
def session(pytester: pytest.Pytester, card: Card, monkeypatch: pytest.MonkeyPatch) -> Session:
    # pytester gives every test a home folder of its own.
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(CACHE))
    for name, value in card.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(pytester.path / "device.lock"))
    monkeypatch.setenv("COLUMNS", "140")
    return Session(pytester, card)


def test_the_cards_metrics_are_judged_shown_and_reported(session: Session) -> None:
    session.configure(*THREE)
    markers = (
        'gpu_memory(max="8GiB")',
        'energy_per_token(max="100J")',
        'perf_metric("gpu_power")',
        'perf_metric("gpu_utilization", min=0.5)',
    )
    result = session.run(scenario("healthy"), *markers, tokens=120)
    result.assert_outcomes(passed=1)
    memory, energy = session.metric("gpu_memory"), session.metric("energy_per_token")
    assert memory["samples"] == [[5 << 30] * 3] * len(memory["samples"])
    assert {len(row) for row in energy["samples"]} == {1}
    joules = energy["value"]
    tokens = session.metric("tokens_per_sec")["value"]
    assert joules == pytest.approx(310 / tokens, rel=0.15)
    assert session.metric("gpu_power")["value"] == pytest.approx(310, rel=0.1)
    assert session.metric("gpu_utilization")["value"] == pytest.approx(0.97)
    for metric in (memory, energy):
        met = {reason["strategy"]: reason["verdict"] for reason in metric["reasons"]}
        assert met["target"] == "pass"
    result.stdout.fnmatch_lines(["*GPU memory*5.0*GiB*<=8 GiB*", "*energy/token * J *<=100 J*"])


def test_missed_limits_are_missed(session: Session) -> None:
    session.configure(*THREE)
    markers = 'gpu_memory(max="4GiB")', 'energy_per_token(max="0.5J")'
    session.run(scenario("healthy"), *markers, tokens=120).assert_outcomes(failed=1)
    assert session.metric("gpu_memory")["verdict"] == "missed"
    assert session.metric("energy_per_token")["verdict"] == "missed"


def test_the_cards_and_what_they_did_are_in_the_report(session: Session) -> None:
    session.run(scenario("eight_devices"), "perf", tokens=80).assert_outcomes(passed=1)
    gpus = session.report["session"]["gpus"]
    assert [gpu["index"] for gpu in gpus] == list(range(8))
    assert gpus[0]["memory_bus_bits"] == 5120
    telemetry = session.report["tests"][0]["telemetry"]
    assert [gpu["used"] for gpu in telemetry["gpus"]] == [True] + [False] * 7
    first = telemetry["gpus"][0]
    assert first["counters"]["power_w"] == {"mean": 420.0, "min": 420.0, "max": 420.0}
    assert first["counters"]["engine_memory"]["max"] == 5 << 30
    assert telemetry["hz"] > 1


def test_they_are_recorded_and_compared_like_other_metrics(session: Session) -> None:
    session.run(scenario("healthy"), "gpu_memory", tokens=80, args=("--llmperf-record",))
    (path,) = session.path.glob("perf_baselines/*/*.json")
    recorded = json.loads(path.read_text())["tests"]["test_it.py::test_it"]["metrics"]
    assert recorded["gpu_memory"]["samples"] == [[5 << 30] * 3]
    assert recorded["gpu_utilization"]["samples"] == [pytest.approx([0.97] * 3)]
    session.run(scenario("healthy"), "gpu_memory", tokens=80)
    assert session.metric("gpu_memory")["baseline"]["value"] == pytest.approx(5 << 30)


def test_too_few_tokens_for_energy_are_an_error_that_says_what_to_do(session: Session) -> None:
    result = session.run(scenario("healthy"), 'energy_per_token(max="2J")', tokens=10)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [r".*energy_per_token could not be measured: the iterations of a process lasted.*"]
    )
    assert (
        "ask for more output tokens in the test"
        in session.metric("energy_per_token")["explanation"]
    )


@pytest.mark.parametrize("text", ["", "init 18\n"])
def test_without_a_card_a_gated_metric_is_an_error_in_plain_words(
    session: Session, text: str
) -> None:
    session.run(text, 'gpu_memory(max="8GiB")').assert_outcomes(failed=1)
    explanation = session.metric("gpu_memory")["explanation"]
    why = "restart the machine" if text else "NVIDIA's library, sees no GPU here; remove the marker"
    assert explanation.startswith("gpu_memory could not be measured: ")
    assert why in explanation
    assert session.report["session"]["gpus"] == []
    assert session.report["tests"][0]["telemetry"] is None


def test_a_card_too_hot_makes_the_test_invalid(session: Session) -> None:
    session.run(scenario("thermal_throttle"), "perf", tokens=80).assert_outcomes(failed=1)
    (test,) = session.report["tests"]
    assert test["verdict"] == "invalid"
    assert any("too hot" in line for line in session.report["session"]["busy"])


def test_a_foreign_process_on_the_card_makes_the_test_invalid(session: Session) -> None:
    session.run(scenario("foreign_process"), "perf").assert_outcomes(failed=1)
    assert session.report["tests"][0]["verdict"] == "invalid"
    assert session.report["session"]["busy"][0].startswith("process 1 (train) with 5.0 GiB")


def test_what_is_only_noted_voids_nothing(session: Session) -> None:
    session.run(scenario("power_cap"), "perf", tokens=80).assert_outcomes(passed=1)
    telemetry = session.report["tests"][0]["telemetry"]
    assert telemetry["gpus"][0]["lowered_clocks"].keys() == {"at its power limit"}
    assert session.report["session"]["busy"] == []


def test_a_card_lost_while_measuring_is_invalid_and_said_once(session: Session) -> None:
    result = session.run(scenario("healthy"), "perf", prompt="card: lost 0")
    result.assert_outcomes(failed=1)
    assert session.report["tests"][0]["verdict"] == "invalid"
    said = [note for note in session.report["session"]["notes"] if "stopped responding" in note]
    assert len(said) == 1


def test_what_a_card_does_not_report_is_said_once_a_session(session: Session) -> None:
    session.configure(*THREE)
    session.run(scenario("unsupported"), 'gpu_memory(max="8GiB")').assert_outcomes(passed=1)
    notes = session.report["session"]["notes"]
    assert [note for note in notes if "MX150" in note] == [
        "the NVIDIA GeForce MX150 does not report: the energy counter, utilization, clocks, power, "
        "the PCIe link"
    ]


def test_a_cpu_engine_is_not_watched_on_a_card_it_does_not_use(session: Session) -> None:
    session.configure('engine: app, target: "toy:answer"', "model_path: smollm2-135m")
    session.run(scenario("foreign_process"), 'gpu_memory(max="8GiB")', tokens=4)
    assert (
        "the engine uses no GPU (a CPU build of llama.cpp, or n_gpu_layers: 0)"
        in (session.metric("gpu_memory")["explanation"])
    )
    assert session.report["session"]["busy"] == []
    assert session.report["session"]["gpus"] == []


def test_a_card_that_was_never_busy_is_stored_and_judged_by_later_sessions(
    session: Session,
) -> None:
    idle = scenario("healthy").replace("busy 0 97 81", "busy 0 0 0")
    mark = "perf_metric('gpu_utilization', tolerance='20%')"
    session.configure(*THREE)
    for _ in range(2):
        result = session.run(idle, mark, args=("--llmperf-record",))
        assert result.ret == 0
    metric = session.metric("gpu_utilization")
    assert (metric["value"], metric["baseline"]["value"], metric["change"]) == (0, 0, 0)
    assert metric["verdict"] in ("pass", "inconclusive")
    (record, _) = sorted(session.path.glob("perf_baselines/*/*.json"))
    (test,) = json.loads(record.read_text())["tests"].values()
    assert test["metrics"]["gpu_utilization"]["samples"] == [[0.0, 0.0, 0.0]] * 3


#: No more replays in turns than planned, however short they are.
SHORT = """
from pytest_llmperf.measure import turns

turns._MIN_SECONDS = turns._MAX_WANTED_SECONDS = 0.0
"""


@pytest.mark.parametrize(
    ("held", "marker", "own_iterations"),
    [
        # Pairs in turns count: their processes replay once by themselves. A pair ran alone before.
        ("5368709120", "tokens_per_sec", [1, 1]),
        # 24564 MiB do not hold 12 GiB twice, with a margin.
        ("12884901888", "tokens_per_sec", [3, 3]),
        ("5368709120", "gpu_memory", [3, 3]),
    ],
    ids=["room for both", "no room", "a counter is gated"],
)
def test_the_sides_of_a_pair_take_turns_on_a_card_that_holds_both(
    session: Session, monkeypatch: pytest.MonkeyPatch, held: str, marker: str, own_iterations: Any
) -> None:
    """The other side is no foreign process."""
    monkeypatch.setenv("HELD", held)
    pairs = "turns: tokens, processes: 2, max_pairs: 2"
    session.configure("processes: 1, max_processes: 1", pairs)
    (session.path / "other.yaml").write_text((session.path / "config.yaml").read_text())
    (session.path / "conftest.py").write_text(QUIET + SHORT)
    against = "--llmperf-against-config", "other.yaml"
    result = session.run(scenario("healthy"), marker, tokens=12, args=against)
    assert result.ret == 0
    assert session.report["session"]["busy"] == []
    (test,) = session.report["tests"]
    assert test["pairs"] == len(own_iterations) + (own_iterations == [1, 1])
    metric = session.metric(marker)
    assert [len(row) for row in metric["samples"]] == own_iterations
    assert [len(row) for row in metric["base_samples"]] == own_iterations
