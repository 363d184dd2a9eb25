"""Which cores and cards the engine needs, so that only strangers on those spoil a sample."""

from __future__ import annotations

import pytest

from pytest_llmperf.config.schema import LlmConfig
from pytest_llmperf.plugin.facts import _may_use_gpu, _needed_cores


@pytest.mark.parametrize(
    ("settings", "cores"),
    [
        ({"engine": "app", "target": "toy:answer"}, 1),
        ({"engine": "app", "target": "toy:answer", "n_threads": 3}, 3),
        ({"n_threads": 2, "n_threads_batch": 5}, 5),
    ],
)
def test_an_application_is_taken_to_need_one_core(settings, cores):
    llm = LlmConfig.model_validate(settings)
    assert _needed_cores(llm, llm.resolved()) == cores


@pytest.mark.parametrize(
    ("backend", "layers", "used"), [("cuda", -1, True), ("cuda", 0, False), ("cpu", -1, False)]
)
def test_a_card_counts_only_where_the_engine_uses_it(backend, layers, used):
    assert _may_use_gpu(backend, {"n_gpu_layers": layers}) is used
