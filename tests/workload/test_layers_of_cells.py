"""Cells of a sweep with different numbers of layers on the GPU, in pairs side by side."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.load_report import GpuStatus, GpuUtilization
from pytest_llmperf.measure.sides import Side

ECHO = """
    def answer(prompt):
        yield from ("a", "b", "c", "d")
"""
CELLS = {name: LaunchSpec("app", {"cell": name}) for name in ("few", "many")}


@pytest.mark.parametrize(
    ("beside", "apart"),
    [
        (20, ""),
        (12, "12/31 layers fitted on the GPU beside the other process, 20/31 without it"),
    ],
)
def test_a_cell_is_compared_with_itself_alone_not_with_a_cell_of_more_layers(
    stage: Any, beside: int, apart: str
) -> None:
    starts: Counter[tuple[str, str]] = Counter()

    def with_layers(side: Side) -> Side:
        def start(spec: LaunchSpec | None = None) -> EngineClient:
            assert spec is not None
            name = spec.config["cell"]
            starts[side.role, name] += 1
            layers = 10 if name == "few" else 20 if starts[side.role, name] == 1 else beside
            client = side.start()
            gpu = GpuUtilization(GpuStatus.AS_ASKED, layers, 31, layers, ())
            client.info = replace(client.info, gpu=gpu)
            return client

        return replace(side, start=start, specs=CELLS)

    stage.settled, stage.turns = with_layers, lambda _: "iterations"
    workloads = {name: stage.workload(name) for name in CELLS}
    measurement = stage.run(workloads, base=ECHO, processes=3, most=3)

    assert measurement.why_not_side_by_side.endswith(apart)
    assert bool(measurement.why_not_side_by_side) is bool(apart)
    for name, samples in measurement.tests.items():
        assert samples.error is None
        assert samples.pairs == 3
        last = 10 if name == "few" else beside
        assert {info.gpu.layers_on_gpu for info in samples.loaded.values()} == {last}
