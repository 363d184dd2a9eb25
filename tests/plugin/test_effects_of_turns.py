"""A side that slows the other one in turns: pairs that run alone show it, and nothing passes."""

from __future__ import annotations

from statistics import fmean

import pytest
from plugin_projects import Project, all_output
from tiny_models import tiny_llama

from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.gate.without_turns import MIN_CONTRADICTING_PAIRS
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.setup import EngineSetup

pytestmark = pytest.mark.usefixtures("quiet_machine")

#: Copies more than a cache holds after every eighth token; in turns the base pays for the copy.
TIDY = Plant(0.0, every=8, buffer=64 << 20)
CONFIG = """
llm:
  model_path: {model}
  n_ctx: 512
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 3
  warmup_max: 2
"""
TEST = """
@pytest.mark.tokens_per_sec(tolerance="50%")
def test_x(llm_engine):
    llm_engine.generate("hello", max_tokens=32)
"""


def test_what_turns_hide_is_found_by_pairs_that_run_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch, exact_replays, measured
) -> None:
    start = EngineSetup.starter
    monkeypatch.setattr(EngineSetup, "starter", lambda setup: start(setup, TIDY))
    project.write(test_it=TEST)
    config = CONFIG.format(model=tiny_llama())
    project.configure(config)
    project.configure(config, "other.yaml")

    result = project.perf("--llmperf-against-config", "other.yaml")

    ((_, samples),) = measured
    rate = get_metric("tokens_per_sec")
    in_turns, alone = samples.differences(rate), samples.differences_without_turns(rate)
    assert len(in_turns) >= 3
    assert len(alone) >= MIN_CONTRADICTING_PAIRS
    assert fmean(in_turns) < min(alone) / 2
    assert project.verdicts() == {"test_x": "inconclusive"}
    said = all_output(result)
    assert f"slower in {len(alone)} pairs whose processes ran one after the other" in said
    assert "the sides affect each other (a shared cache, heat, clocks)" in said
