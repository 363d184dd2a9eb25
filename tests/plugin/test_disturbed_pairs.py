"""Pairs in turns of tokens on a busy machine: the difference is judged, the target is not."""

from __future__ import annotations

import re
from typing import Any

import pytest

STEADY = """
import time

def answer(prompt, max_tokens):
    for _ in range(max_tokens):
        time.sleep(0.01)
        yield "a"
"""
CONFIG = "{llm: {engine: app, target: 'toy:answer'}, perf: {turns: tokens, warmup_max: 2}}"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the machine busy for every process in turns of tokens, which excludes the first pair."""
    from pytest_llmperf.machine.fitness import FitnessFinding
    from pytest_llmperf.measure.process_run import ProcessRun

    original = ProcessRun.end

    def end(self: Any) -> Any:
        if self._turns == "tokens":
            found = FitnessFinding("busy_cores", "invalid", "process 1 (cc) used 1.0 of 2 cores")
            stop = self.watch.stop
            self.watch.stop = lambda: [*stop(), found]
        return original(self)

    monkeypatch.setattr(ProcessRun, "end", end)


@pytest.mark.usefixtures("busy", "exact_replays")
def test_the_difference_passes_and_the_target_is_not_judged(project: Any) -> None:
    project.write(
        toy=STEADY,
        test_toy="""
        @pytest.mark.tokens_per_sec(min=1, tolerance="50%")
        def test_one(llm_engine):
            llm_engine.generate("hi", max_tokens=6)
        """,
    )
    project.configure(CONFIG)
    project.configure(CONFIG, "other.yaml")
    result = project.perf("--llmperf-against-config", "other.yaml")

    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    # On a busy machine the real finding comes first.
    assert "the target was not judged: " in " ".join(text.split())
    assert "(busy_cores)" in text
    # A process may be left out as invalid, but no check is.
    assert not re.search(r"^ *invalid\b", text.partition("= LLM performance =")[2], re.M)
