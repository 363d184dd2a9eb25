"""Fixtures that give every test its own project: configuration, application, baselines, lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from plugin_projects import APP, CACHE, INI, TOY, Project

from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replication import BLOCK
from pytest_llmperf.measure.rounds import Rounds
from pytest_llmperf.measure.samples import TestSamples


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shield the inner sessions from this session, its user and other sessions of the machine."""
    for name in os.environ:
        if name.startswith(("LLMPERF_", "PYTEST_ADDOPTS", "PYTEST_XDIST_", "COV_", "COVERAGE_")):
            monkeypatch.delenv(name)
    # pytester gives every test a home folder of its own.
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(CACHE))
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(tmp_path / "device.lock"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    """Return a project around the toy application."""
    pytester.makeini(INI)
    pytester.makepyfile(toy=TOY)
    made = Project(pytester)
    made.configure(APP)
    return made


@pytest.fixture
def one_test(project: Project) -> Project:
    """Return the project with one perf test, ``test_answer``."""
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_answer(llm_engine):
            assert llm_engine.generate("hello", max_tokens=4).text
        """
    )
    return project


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which ``Project.record_once`` keeps a recording for a module's tests."""
    return tmp_path_factory.mktemp("recording") / "kept"


@pytest.fixture
def quick_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause before each block of a server that already runs.

    A simulated server has nothing to recover from; the pause itself is tested elsewhere.
    """
    monkeypatch.setitem(vars(BLOCK), "pause_seconds", 0.02)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, TestSamples]]:
    """Return a list to which sessions add the samples of each test, with the plan."""
    run, seen = Rounds.run, []

    def watched(rounds: Rounds) -> Any:
        measurement = run(rounds)
        seen.extend((rounds._plan, samples) for samples in measurement.tests.values())
        return measurement

    monkeypatch.setattr(Rounds, "run", watched)
    return seen
