"""Small searches over real engines of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quick_sessions import OUR_PLUGIN_ALONE
from tiny_models import tiny_llama
from tune_projects import CONFTEST, TEST
from tune_runs import Tune

import pytest_llmperf as perf
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.session.context import SessionContext
from pytest_llmperf.session.machine_watch import FitWait
from pytest_llmperf.session.recording import record_body
from pytest_llmperf.tune.request import TuneRequest
from pytest_llmperf.tune.result import TuneResult
from pytest_llmperf.tune.run import TuneRun
from pytest_llmperf.tune.search import Quality

PROMPT = "A question about caches. " * 12
#: Processes run one after the other, which is the fastest way with such a small model.
QUICK = {"processes": 2, "max_pairs": 8, "iterations": 3, "warmup_max": 2, "turns": "processes"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_machine: None) -> Path:
    """Return an empty folder for searches, with the checks for other load switched off.

    Searches in this process use it, as pytester would unload parts of Optuna after the test.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(tmp_path / "device.lock"))
    return tmp_path


@pytest.fixture
def tune(folder: Path) -> Tune:
    """Return a function that runs a search in the folder."""

    def run(
        section: dict[str, Any],
        *,
        request: TuneRequest | None = None,
        quality: Quality | None = None,
        targets: dict[str, Any] | None = None,
        text: str | None = None,
        **llm: Any,
    ) -> TuneResult:
        import yaml

        content = {
            "llm": {
                "model_path": str(tiny_llama()),
                "n_ctx": 512,
                "n_threads": 1,
                "n_threads_batch": 1,
                "max_tokens": 8,
                **llm,
            },
            "perf": {**QUICK, "targets": targets or {}},
            "tune": {"budget": "60s", **section},
            "quality": {"text": text},
        }
        Path("config.yaml").write_text(yaml.safe_dump(content))
        setup = perf.configuration()
        context = SessionContext(setup, FitWait())
        tuning = TuneRun(context, request or TuneRequest(), quality)
        tuning.check()

        def body(engine: LlmEngine) -> None:
            engine.generate(PROMPT, max_tokens=4)

        test, engine = record_body(setup, "prompt", body, print)
        return tuning.run([test], engine)

    return run


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a project with one test, for commands that run in their own process."""
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(pytester.path / "device.lock"))
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(pytester.path / "cache"))
    for name, value in OUR_PLUGIN_ALONE.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile(test_caches=TEST, conftest=CONFTEST)
    pytester.makeini("[pytest]\n")
    return pytester
