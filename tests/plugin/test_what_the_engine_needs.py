"""Cores and cards that the engine needs: only other processes on those spoil a sample."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plugin_projects import APP

from pytest_llmperf.config.llm_section import LlamaCppConfig, read_llm
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine_kinds import EngineKind
from pytest_llmperf.machine.gpu.devices import Gpu, GpuReading
from pytest_llmperf.plugin.console import TerminalConsole
from pytest_llmperf.plugin.session_context import session_context
from pytest_llmperf.session.base_side import config_side
from pytest_llmperf.session.facts import _may_use_gpu, _needed_cores, gather_facts


@pytest.mark.parametrize(
    ("settings", "cores"),
    [
        ({"engine": "app", "target": "toy:answer"}, 1),
        ({"engine": "app", "target": "toy:answer", "n_threads": 3}, 3),
        ({"n_threads": 2, "n_threads_batch": 5}, 5),
    ],
)
def test_an_application_is_taken_to_need_one_core(settings, cores):
    llm = read_llm(settings)
    assert _needed_cores(llm) == cores


@pytest.mark.parametrize(
    ("backend", "layers", "used"), [("cuda", -1, True), ("cuda", 0, False), ("cpu", -1, False)]
)
def test_a_card_counts_only_where_the_engine_uses_it(monkeypatch, backend, layers, used):
    monkeypatch.setattr(EngineKind, "backend_name", backend)
    assert _may_use_gpu(LlamaCppConfig(n_gpu_layers=layers)) is used


#: For tests in which the verdict does not matter.
ONE_PAIR = ("--llmperf-set", "perf.max_pairs=1")


@pytest.mark.parametrize(("here", "there"), [(1, 2), (2, 1)])
def test_both_sides_are_watched_with_the_larger_need(one_test, monkeypatch, here, there):
    asked = set()
    monkeypatch.setattr(
        "pytest_llmperf.session.machine_watch.judge",
        lambda report, need: asked.add(need.threads) or [],
    )
    for need, name in ((here, "config.yaml"), (there, "other.yaml")):
        one_test.configure(APP.replace("n_threads: 1", f"n_threads: {need}"), name)
    one_test.perf("--llmperf-against-config", "other.yaml", *ONE_PAIR)
    assert asked == {2}


@pytest.mark.parametrize(("here", "there"), [(0, -1), (-1, 0)])
def test_a_card_that_either_side_may_use_is_watched(pytester, monkeypatch, here, there):
    card = GpuReading((Gpu("RTX 4090"),))
    monkeypatch.setattr("pytest_llmperf.session.facts.read_gpus", lambda *_: card)
    monkeypatch.setattr(EngineKind, "backend_name", "cuda")
    for layers, name in ((here, "config.yaml"), (there, "other.yaml")):
        pytester.path.joinpath(name).write_text(f"llm: {{n_gpu_layers: {layers}}}\n")
    config = pytester.parseconfig()
    context = session_context(config, TerminalConsole(config))
    # The card matters here, not the model's bytes.
    context = replace(context, setup=replace(context.setup, model=None))
    info = EngineInfo(engine="llama_cpp", engine_version="1", model_name="m")
    base = config_side(context, pytester.path / "other.yaml")
    # No driver answers for this card; it is asked only because a side may use the card.
    with gather_facts(context, info, base) as facts:
        assert facts.watch.no_gpu == "the NVIDIA driver stopped answering"
