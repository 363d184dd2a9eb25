"""Candidates whose engine fails become points with a reason, and the search goes on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_llama
from tune_runs import Tune, propose_first

from pytest_llmperf.machine.free_memory import free_memory
from pytest_llmperf.tune.request import TuneRequest

GIB = 1 << 30
#: llama.cpp aborts (GGML_ASSERT) when it computes with this value.
FATAL = {"llama.attention.layer_norm_rms_epsilon": -1.0}


def test_a_candidate_that_crashes_is_a_point_and_the_next_one_is_measured(
    tune: Tune, tmp_path: Path
) -> None:
    propose_first(tmp_path, "mine", {"use_mmap": True, "extra.kv_overrides": FATAL})
    space = {"use_mmap": [True, False], "extra.kv_overrides": [FATAL]}
    result = tune({"space": space}, request=TuneRequest(phases=(1,), study="mine"))
    crashed, *others = result.points
    assert (crashed.settings, crashed.outcome) == ({"extra.kv_overrides": FATAL}, "failed")
    assert crashed.reason == "the engine's process was ended by SIGABRT while generating"
    outcomes = {point.outcome for point in others if "extra.kv_overrides" not in point.settings}
    assert outcomes <= {"measured", "lost"}
    assert outcomes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as on Linux")
def test_a_candidate_without_memory_is_a_point_and_the_next_one_is_measured(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if free_memory() < 3 * GIB:
        pytest.skip("needs 3 GiB of free memory, which the estimate takes for enough")
    # Each engine process gets 2 GiB at most, and the threads of OpenBLAS would use some of it.
    limits = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({2 * GIB}, {2 * GIB}))\n"
    (tmp_path / "sitecustomize.py").write_text(limits)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    # Which side wins a race does not matter here.
    monkeypatch.setattr("pytest_llmperf.tune.race.MAX_PAIRS", 1)
    settings: dict[str, Any] = {"flash_attn": True, "n_batch": 8, "n_ubatch": 8}
    result = tune(
        # Each token takes 2 KiB of the KV cache.
        {"space": {"n_ctx": [512, 1 << 20], "use_mmap": [True, False]}},
        request=TuneRequest(phases=(1,)),
        model_path=str(tiny_llama(width=512, name="wide-llama")),
        **settings,
    )
    first, *others = result.points
    assert (first.settings, first.outcome) == ({"n_ctx": 1 << 20}, "does not fit")
    assert first.reason == "it does not fit in system memory (a buffer of 2.0 GiB)"
    outcomes = {point.outcome for point in others if "n_ctx" not in point.settings}
    assert outcomes <= {"measured", "lost"}
    assert outcomes
