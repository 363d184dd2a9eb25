"""Causes in words: how commit or configuration changed the engine since the baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.causes import EngineState, beyond_cores, build_flags, causes
from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.baselines.record import Loaded, RecordedSession, from_json, to_text
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.load_report import read_load_report

CONFIG = {"n_gpu_layers": -1, "n_threads": 4, "n_threads_batch": 4}
BUILD = "CPU : SSE3 = 1 | AVX2 = 1 | REPACK = 1 | CUDA : ARCHS = 890 | "


def info(offloaded: int | None, *, asked: int = -1, build: str = BUILD) -> EngineInfo:
    """Return an engine with ``offloaded`` of 31 layers on the GPU; None: built without GPU code."""
    lines = [] if offloaded is None else [f"load_tensors: offloaded {offloaded}/31 layers to GPU"]
    report = read_load_report(lines, asked=asked, supports_gpu=offloaded is not None, n_layer=30)
    return EngineInfo("llama_cpp", "0.3.36", "m", build_flags=build, gpu=report)


def side(offloaded: int | None = 31, backend: str = "cuda", **config: Any) -> EngineState:
    settings = {**CONFIG, **config}
    loaded = Loaded.of(info(offloaded, asked=settings["n_gpu_layers"]))
    return EngineState(backend, settings, loaded)


def cause_texts(here: EngineState, there: EngineState) -> dict[str, str]:
    return {finding.name: finding.text for finding in causes(here, there)}


def test_the_same_engine_has_no_causes() -> None:
    assert causes(side(), side()) == []


def test_fewer_layers_on_the_gpu_are_named_with_the_setting_that_did_it() -> None:
    here = side(12, n_gpu_layers=12)
    assert cause_texts(here, side()) == {
        "other_layers": "12 of 31 layers on the GPU, the baseline had 31: llm.n_gpu_layers -1 → 12"
    }
    (finding,) = causes(here, side())
    assert finding.severity == "warn"
    assert finding.evidence == {
        "layers_on_gpu": 12,
        "total_layers": 31,
        "baseline_layers_on_gpu": 31,
        "n_gpu_layers": 12,
        "baseline_n_gpu_layers": -1,
    }


def test_layers_that_did_not_fit_are_named_without_a_setting() -> None:
    assert cause_texts(side(20), side())["other_layers"] == (
        "20 of 31 layers on the GPU, the baseline had 31: fewer layers than asked: all asked; "
        "usually too little free GPU memory"
    )


def test_a_build_without_gpu_code_is_named_first() -> None:
    texts = cause_texts(side(None, "cpu"), side())
    assert next(iter(texts)) == "other_backend"
    assert texts["other_backend"] == "CPU-only build; the baseline ran on cuda"
    assert texts["other_layers"].startswith("0 of 31 layers on the GPU, the baseline had 31: CPU-")


def test_another_gpu_backend_is_named() -> None:
    assert cause_texts(side(31, "vulkan"), side()) == {
        "other_backend": "the engine runs on vulkan, the baseline ran on cuda"
    }


def test_what_an_application_computes_on_is_not_compared() -> None:
    assert causes(EngineState("app", {}), EngineState("cpu", {})) == []


def test_other_thread_counts_are_named() -> None:
    assert cause_texts(side(n_threads=2), side()) == {"other_threads": "llm.n_threads 4 → 2"}
    texts = cause_texts(side(n_threads=2, n_threads_batch=1), side())
    assert texts == {"other_threads": "llm.n_threads 4 → 2, llm.n_threads_batch 4 → 1"}


def test_other_build_flags_are_named() -> None:
    plain = Loaded.of(info(31, build="CPU : SSE3 = 1 | REPACK = 1 | CUDA : ARCHS = 750 |"))
    assert cause_texts(EngineState("cuda", CONFIG, plain), side()) == {
        "other_build": "the engine's build differs from the baseline's: "
        "CPU AVX2 1 → absent, CUDA ARCHS 890 → 750"
    }


def test_the_build_of_the_real_engine_is_read() -> None:
    import llama_cpp

    text = llama_cpp.llama_print_system_info().decode()
    flags = build_flags(text)
    assert text.count("=") == len(flags)
    assert all(name.startswith("CPU ") for name in flags)
    assert flags["CPU SSE3"] == "1"


def test_of_an_engine_that_said_nothing_no_layers_are_compared() -> None:
    assert causes(side(12, n_gpu_layers=12), EngineState("cuda", CONFIG)) == []


@pytest.mark.parametrize(
    ("threads", "batch", "text"),
    [
        (2, 2, None),
        (8, 2, "n_threads 8 on 2 usable cores: threads that wait for each other are very slow"),
        (8, 9, "n_threads 8 and n_threads_batch 9 on 2 usable cores: threads that wait for each"),
    ],
)
def test_threads_beyond_the_cores_are_named(threads: int, batch: int, text: str | None) -> None:
    findings = beyond_cores({"n_threads": threads, "n_threads_batch": batch}, 2)
    if text is None:
        assert findings == []
    else:
        (finding,) = findings
        assert finding.text.startswith(text)
        assert (finding.name, finding.severity) == ("threads_beyond_cores", "warn")


def test_a_record_keeps_what_was_loaded_and_which_checks_found_something(
    store: BaselineStore, make_record: Any
) -> None:
    loaded = Loaded.of(info(12, asked=12))
    session = RecordedSession(7, 3, 3, (), fitness={"busy_cores": "warn"})
    path = store.write(make_record(loaded=loaded, session=session))
    record = read_record(path)
    assert (record.loaded, record.session) == (loaded, session)
    assert json.loads(path.read_text())["loaded"]["layers_on_gpu"] == 12


def test_what_a_session_has_nothing_of_is_not_in_its_record(make_record: Any) -> None:
    data = json.loads(to_text(make_record()))
    assert "loaded" not in data
    assert "fitness" not in data["session"]
    record = from_json(data)
    assert record.loaded is None
    assert record.session.fitness == {}


def test_what_was_loaded_must_have_the_right_shape(
    bad_file: Any, store: BaselineStore, make_record: Any
) -> None:
    data = json.loads(to_text(make_record(loaded=Loaded.of(info(12)))))
    data["loaded"]["layers_on_gpu"] = "all"
    path: Path = bad_file(json.dumps(data))
    with pytest.raises(Exception, match=r"loaded\.layers_on_gpu: expected an integer") as caught:
        store.check_all()
    assert path.name in str(caught.value)
