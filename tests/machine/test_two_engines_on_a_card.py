"""Two engines of a pair on one card at the same time."""

from __future__ import annotations

from typing import Any

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.gate.check import Check
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.measuring import make_plan
from pytest_llmperf.session.recorded import RecordedTest

GIB = 1 << 30
#: Two processes of this session on the card, each watched while both live; ``DURING`` runs while
#: they take turns, after the iterations that count.
PAIR = """
import subprocess
from pytest_llmperf.engine.kinds import LLAMA_CPP
from pytest_llmperf.session.machine_watch import HostNeeds, MachineWatch, WatchSettings

telemetry = Telemetry.open()
engines = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) for _ in range(2)]
for engine in engines:
    more(TENANT.replace("PID", str(engine.pid)))
settings = WatchSettings(HostNeeds(), telemetry=telemetry)
for engine in engines:
    engine.info, engine.processes, engine.kind = None, (engine.pid,), LLAMA_CPP
watches = [MachineWatch(settings, engine, beside=True) for engine in engines]

def generation(seconds):
    start = time.perf_counter()
    time.sleep(seconds)
    step = (time.perf_counter() - start) / 100
    return [Timeline(start, tuple(start + step * (n + 1) for n in range(100)))]

time.sleep(0.1)
metrics = [dict(watch.iteration_metrics(generation(0.3))) for watch in watches]
exec(DURING)
turns = generation(0.8)
for watch, found in zip(watches, metrics):
    watch.record_turn(turns)
    found.update(watch.overall_metrics([]))
findings = [[one for one in watch.stop() if "gpu" in one.name] for watch in watches]
devices = [watch.telemetry().devices[0] for watch in watches]
undefined = [watch.missing_reasons() for watch in watches]
for engine in engines:
    engine.communicate(b"\\n")
telemetry.close()
answer({"metrics": metrics, "undefined": undefined, "findings": findings, "devices": devices})
"""


def pair(
    card: Card, text: str, tenant: str = "tenant 0 PID 5368709120 python", during: str = ""
) -> dict[str, Any]:
    card.set(text)
    settings = f"TENANT, DURING = {tenant!r}, {during!r}\n"
    result: dict[str, Any] = card.run(settings + PAIR)
    return result


def test_what_the_driver_counts_for_the_whole_card_has_no_value_and_a_reason(card: Card) -> None:
    found = pair(card, scenario("healthy"))
    for metrics, undefined, device in zip(
        found["metrics"], found["undefined"], found["devices"], strict=True
    ):
        # Each engine's own memory; the other one's is not in it.
        assert metrics == {"gpu_memory": 5 * GIB}
        assert set(undefined) == {"gpu_power", "energy_per_token", "gpu_utilization"}
        assert undefined["gpu_power"] == (
            "the card's counter is the sum of all processes, and the two processes of "
            "the pair took turns on one card (perf.turns: processes runs one after the other)"
        )
        counters = device["counters"]
        assert not {"power_w", "gpu_busy", "memory_busy"} & set(counters)
        assert counters["engine_memory"]["high"] == 5 * GIB
        # The other side's memory is not counted as others'.
        assert counters["other_memory"]["high"] < GIB
        assert counters["sm_mhz"]["mean"] == 2640


def test_memory_that_is_not_reported_by_process_has_no_value(card: Card) -> None:
    found = pair(card, scenario("healthy"), "tenant 0 PID -5368709120 python")
    assert found["metrics"] == [{}, {}]
    for undefined in found["undefined"]:
        assert undefined["gpu_memory"].startswith("the driver does not report memory by process")


@pytest.mark.parametrize("hidden", [0, 2])
def test_the_other_side_is_no_foreign_process(card: Card, hidden: int) -> None:
    """Not even in a container, whose processes the driver lists under the host's numbers."""
    listed = "".join(f"compute 0 {4194300 + n} 1024 python\n" for n in range(hidden))
    tenant = "" if hidden else "tenant 0 PID 5368709120 python"
    assert pair(card, scenario("healthy") + listed, tenant)["findings"] == [[], []]


def test_a_third_process_is_a_foreign_one(card: Card) -> None:
    listed = "".join(f"compute 0 {4194300 + n} 1024 python\n" for n in range(3))
    for findings in pair(card, scenario("healthy") + listed, "")["findings"]:
        assert [(f["name"], f["severity"]) for f in findings] == [("busy_gpu", "invalid")]


def test_what_happens_in_the_turns_makes_both_unfit(card: Card) -> None:
    """Both are watched until the end."""
    found = pair(card, scenario("healthy"), during="more('throttle 0 40')")
    for findings in found["findings"]:
        assert [(f["name"], f["severity"]) for f in findings] == [("gpu_throttled", "invalid")]


def test_too_little_free_memory_voids_a_pair_because_it_may_hit_one_side_alone(card: Card) -> None:
    tenant = f"tenant 0 PID {(24564 - 310 - 200) << 19} python"
    for findings in pair(card, scenario("healthy"), tenant)["findings"]:
        assert [(f["name"], f["severity"]) for f in findings] == [
            ("gpu_memory_pressure", "invalid")
        ]


def test_gates_on_a_cards_counters_take_no_turns() -> None:
    def test(name: str, *, gated: bool) -> RecordedTest:
        check = Check(get_metric(name), None, 0.05, gated=gated)
        return RecordedTest(f"{name} {gated}", Workload(()), 0.1, (check,))

    tests = [
        test(name, gated=gated)
        for name in ("energy_per_token", "gpu_memory", "tokens_per_sec")
        for gated in (True, False)
    ]
    plan = make_plan(tests, PerfConfig(), 0.1, paired=True)
    assert plan.run_alone == {"energy_per_token True", "gpu_memory True"}
