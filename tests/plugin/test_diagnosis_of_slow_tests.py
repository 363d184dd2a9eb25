"""A test that misses its target says why it may be slow, as llmperf doctor sees it."""

from __future__ import annotations

import shlex
from dataclasses import fields

import pytest
from plugin_projects import CACHE, REAL

from pytest_llmperf.config.embedded import EMBEDDED, models_dir
from pytest_llmperf.session.result import DiagnosedCause

SLOW = REAL.replace("n_batch: 128", "n_batch: 128\n  n_ubatch: 4")


@pytest.fixture
def slow(project, quiet_machine: None):
    """A project whose prompts are computed in pieces of four tokens."""
    if not (models_dir(CACHE) / EMBEDDED["smollm2-135m"].file_name).exists():
        pytest.skip("the embedded model is not in the cache")
    project.configure(SLOW)
    return project


def test_a_missed_target_names_the_causes_and_the_command_that_measures_them(slow) -> None:
    slow.write(
        test_it="""
        @pytest.mark.first_token(max="1us")
        def test_missed(llm_engine):
            llm_engine.generate("The capital of France is", max_tokens=3)

        @pytest.mark.first_token(max="10h")
        def test_met(llm_engine):
            llm_engine.generate("The capital of France is", max_tokens=3)
        """
    )
    result = slow.perf("--llmperf-set", "llm.seed=7")
    assert slow.verdicts()["test_missed"] == "missed"
    tests = {test["nodeid"].partition("::")[2]: test for test in slow.session()["tests"]}
    causes = {cause["name"]: cause for cause in tests["test_missed"]["diagnosis"]}
    assert causes["batch_small"]["change"] == "n_batch: 512, n_ubatch: 512"
    assert set(causes["batch_small"]) == {field.name for field in fields(DiagnosedCause)}
    assert tests["test_met"]["diagnosis"] == []
    said = result.stdout.str()
    assert said.count("to measure each change:") == 1
    (command,) = (line.strip() for line in said.splitlines() if "llmperf doctor" in line)
    words = shlex.split(command)
    assert words[:4] == ["llmperf", "doctor", "--set", "llm.seed=7"]
    assert words[4::2] == ["--prompt-tokens", "--max-tokens"]
    assert words[7] == "3"
