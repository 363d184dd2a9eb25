"""The processes of a pair take turns on one device that holds both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gpu_loads import SMALL, Load

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.request import Request
from pytest_llmperf.machine.fitness import HostNeeds
from pytest_llmperf.machine.gpu.room import cards_have_room_beside
from pytest_llmperf.machine.gpu.telemetry import Telemetry
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Rounds
from pytest_llmperf.measure.samples import BASE, CANDIDATE, Measurement
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.machine_watch import MachineWatch, WatchSettings
from pytest_llmperf.session.measuring import possible_turns

MODEL = "smollm2-135m"
#: Checks of other load on the machine, which does not matter here.
NOTED: Any = (
    *("busy_cores", "stolen_cores", "cpu_quota", "cpu_throttled"),
    *("swapping", "memory_pressure", "major_faults"),
)


@pytest.fixture(scope="module")
def measured() -> Measurement:
    """Two tests in two pairs; one of the tests gates a counter of the card."""
    spec = LaunchSpec("llama_cpp", LlamaCppConfig(**SMALL).resolved(resolve_model(MODEL, Path())))
    client = EngineClient.start(spec)
    request = Request(prompt="Hello", max_tokens=6)
    workload = Workload((RecordedRequest.of(request, client.request(request)),))
    client.close()
    nodeids = ("speed", "energy")
    perf = PerfConfig().model_copy(
        update={"processes": 2, "max_pairs": 2, "iterations": 1, "warmup_max": 1}
    )
    plan = Plan(
        dict.fromkeys(nodeids, workload),
        dict.fromkeys(nodeids, 0.1),
        start_seconds=0.1,
        perf=perf,
        seed=1,
        budget=600.0,
        paired=True,
        run_alone=frozenset({"energy"}),
    )
    telemetry = Telemetry.open()
    why = "" if telemetry else "no NVML"
    settings = WatchSettings(HostNeeds(), dict.fromkeys(NOTED, "note"), telemetry, why)
    sides = [Side(role, role, starter_of(spec)) for role in (CANDIDATE, BASE)]
    beside: list[bool] = []

    def watch(client: EngineClient) -> MachineWatch:
        return MachineWatch(settings, client, beside=beside[-1])

    def before(turns: Any) -> float:
        beside.append(turns is not None)
        return 0.0

    try:
        return Rounds(
            plan,
            sides,
            watch,
            lambda step: None,
            before=before,
            possible_turns=partial(possible_turns, settings, "auto"),
        ).run()
    finally:
        if telemetry is not None:
            telemetry.close()


def test_the_second_pair_takes_turns_by_tokens(measured: Measurement) -> None:
    assert measured.why_not_side_by_side == ""
    samples = measured.tests["speed"]
    assert samples.error is None
    assert (samples.pairs, samples.void_pairs) == (2, 0)
    took = {process.process: process.turns is not None for process in samples.processes}
    assert list(took.values()) == [False, False, True, True]
    for metric in ("tokens_per_sec", "first_token", "end_to_end"):
        assert len(samples.differences(get_metric(metric)) or ()) == 1
    assert all(info.gpu and info.gpu.layers_on_gpu == 31 for info in samples.loaded.values())


def test_a_test_that_gates_a_counter_takes_none(measured: Measurement) -> None:
    samples = measured.tests["energy"]
    assert (samples.error, samples.pairs) == (None, 2)
    assert not any(process.turns or process.in_iteration_turns for process in samples.processes)


def test_the_card_has_room_by_its_own_report_and_not_if_it_was_full(
    load: Callable[..., Load],
) -> None:
    gpu = load().gpu
    assert cards_have_room_beside(None, [], gpu)
    full = tuple(
        dataclasses.replace(dev, free_bytes=dev.model_bytes + dev.kv_bytes) for dev in gpu.devices
    )
    assert not cards_have_room_beside(None, [], dataclasses.replace(gpu, devices=full))
