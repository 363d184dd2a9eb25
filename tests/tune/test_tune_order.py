"""How few points a search needs to find the best settings, on a machine that is a formula."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.tune.objective import Objective
from pytest_llmperf.tune.propose import Queue, TriedSettings
from pytest_llmperf.tune.result import Phase, Point
from pytest_llmperf.tune.space import Space
from pytest_llmperf.tune.study import Study

TODAY = {
    "n_threads": 8,
    "n_threads_batch": 8,
    "flash_attn": False,
    "n_batch": 32,
    "n_ctx": 8192,
    "type_v": "f16",
}
SPACE = Space(
    {
        "n_threads": (1, 2, 8),
        "n_threads_batch": (1, 2, 8),
        "flash_attn": (False, True),
        "n_batch": (32, 128, 512),
        "n_ctx": (512, 2048, 8192),
        "type_v": ("f16", "q8_0"),
    },
    TODAY,
    usable_cpus=2,
)
PHASES: tuple[Phase, ...] = (1, 2, 3)


def seconds(whole: dict[str, Any]) -> float:
    """Return the seconds of decode and prefill; quantized V and flash attention speed up decode."""
    threads = {1: 1.8, 2: 1.0, 4: 3.0, 8: 10.0}
    batch = 1.0 + 0.3 * (math.log2(512) - math.log2(min(whole["n_batch"], 512)))
    decode = threads[whole["n_threads"]] * (1.0 - 0.03 * whole["flash_attn"])
    if whole["type_v"] == "q8_0":
        decode *= 0.95
    return decode + threads[whole["n_threads_batch"]] * batch + whole["n_ctx"] * 2e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_a_grid_is_found_in_a_quarter_of_its_points(tmp_path: Path, seed: int) -> None:
    study = Study.open("s", None, tmp_path, {}, SPACE, seed)
    queue = Queue(
        study,
        SPACE,
        Objective(),
        [("threads_above_cores", {"n_threads": 2, "n_threads_batch": 2})],
    )
    for phase in PHASES:
        while (asked := queue.start(phase)) is not None:
            best = TriedSettings(SPACE, study.points()).best
            best_seconds = seconds(TriedSettings(SPACE, study.points()).best_values)
            effect = math.log(seconds(dict(asked.values)) / best_seconds)
            point = Point(
                asked.number,
                phase,
                SPACE.changed(asked.values),
                "measured",
                against=best.number if best is not None else 0,
                took_over=effect < -0.01,
                origin=asked.origin,
                score=(best.score or 0.0 if best is not None else 0.0) + effect,
            )
            study.finish(asked, point)
    keys = [*SPACE.choices]
    grid = [dict(zip(keys, row, strict=True)) for row in product(*SPACE.choices.values())]
    fitting = [settings for settings in grid if SPACE.repaired(settings) == settings]
    winner = TriedSettings(SPACE, study.points()).best_values
    assert min(map(seconds, fitting)) / seconds(winner) >= 0.98
    assert len(study.points()) <= len(fitting) / 4
