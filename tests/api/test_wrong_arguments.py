"""Arguments of the Python API that can't be used, and the error that says what to give instead."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_llama

import pytest_llmperf as perf
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.session.setup import EngineSetup


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny() -> EngineSetup:
    return perf.configuration(llm={"model_path": tiny_llama(), "n_ctx": 512, "n_threads": 1})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_ctx": {1}}, "argument llm.n_ctx: a set can't be a setting; expected text, a number, "),
        ({"n_ctx": object}, "argument llm.n_ctx: a type can't be a setting; expected text, "),
        ({"seed": datetime.timedelta(1)}, "argument llm.seed: a timedelta can't be a setting"),
        (
            {"tensor_split": np.array([1])},
            "argument llm.tensor_split: a ndarray can't be a setting",
        ),
        ({"seed": Decimal("NaN")}, "argument llm.seed: a Decimal can't be a setting"),
        ({"extra": {(1, 2): 3}}, "argument llm.extra: keys must be str, int, float, bool or None"),
        ({"n_ctx=": 512}, "argument llm.n_ctx=: unknown key"),
        ({3: 512}, "argument llm.3: unknown key"),
    ],
)
def test_a_value_that_is_no_setting_is_named(settings: dict[Any, Any], says: str) -> None:
    with pytest.raises(perf.ConfigError) as caught:
        perf.configuration(llm={**settings, "n_batchh": 1})
    assert says in str(caught.value)
    assert "argument llm.n_batchh: unknown key; did you mean 'n_batch'" in str(caught.value)


def test_a_value_that_contains_itself_is_named() -> None:
    extra: dict[str, Any] = {}
    extra["again"] = extra
    with pytest.raises(perf.ConfigError, match=r"argument llm\.extra: Circular reference"):
        perf.configuration(llm={"extra": extra})


def test_the_numbers_of_a_notebook_are_numbers(tiny: EngineSetup) -> None:
    config = perf.configuration(
        llm={"model_path": tiny_llama(), "n_ctx": np.int64(512), "tensor_split": (1, np.int8(1))},
        perf={"targets": {"tokens_per_sec": np.float32(2)}},
    )
    assert config.llm.n_ctx == 512
    assert config.perf.targets == {"tokens_per_sec": 2.0}
    seen: list[int] = []

    def ask(engine: Any) -> None:
        seen.append(engine.generate([np.int64(1), 2], max_tokens=np.int64(3)).output_tokens)
        raise StopIteration

    with pytest.raises(StopIteration):
        perf.measure_workload(tiny, ask)
    assert seen == [3]


@pytest.mark.parametrize("settings", ["tiny.gguf", [("n_ctx", 512)], 5])
def test_settings_that_are_no_dict_are_refused(settings: Any) -> None:
    with pytest.raises(TypeError, match="perf: expected a dict of settings, got "):
        perf.configuration(perf=settings)


def test_an_empty_file_name_is_not_the_projects_file() -> None:
    with pytest.raises(perf.ConfigError, match="is a directory"):
        perf.configuration("")


@pytest.mark.parametrize("wrong", ["config.yaml", None, {"llm": {}}])
def test_a_configuration_is_what_configuration_returns(tiny: EngineSetup, wrong: Any) -> None:
    says = r"expected what configuration\(\) returns, got "
    with pytest.raises(TypeError, match=f"config: {says}"):
        perf.measure_workload(wrong, "a")
    with pytest.raises(TypeError, match=f"config: {says}"):
        perf.compare_configurations(wrong, tiny, "a")
    with pytest.raises(TypeError, match=f"base: {says}"):
        perf.compare_configurations(tiny, wrong, "a")


@pytest.mark.parametrize(
    ("workload", "says"),
    [
        (None, "workload: expected a prompt, a list of prompts, or a function that is called with"),
        (5, "workload: expected a prompt, a list of prompts, or a function that is called with"),
        (b"a", "workload: expected a prompt, a list of prompts, or a function that is called with"),
        ([1, 2], r"workload: expected a list of prompts, got 1 in it; .*: \[\[1, 2, 3\]\]"),
        ([[1], {"role": "user"}], r"got {'role': 'user'} in it; a chat .*engine\.chat\(messages\)"),
        (["a", None], "workload: expected a list of prompts, got None in it; a prompt is text or"),
    ],
)
def test_a_workload_of_another_kind_is_refused_before_it_runs(
    tiny: EngineSetup, workload: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineClient, "start", None)
    with pytest.raises(TypeError, match=says):
        perf.measure_workload(tiny, workload)


async def coroutine(engine: Any) -> None:
    engine.generate("a")


def generator(engine: Any) -> Any:
    yield engine.generate("a")


@pytest.mark.parametrize("function", [coroutine, generator])
def test_a_function_that_has_not_run_is_refused(
    tiny: EngineSetup, function: Callable[[Any], Any], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(TypeError, match=r"workload: .* returned a (coroutine|generator) and ran n"):
        perf.measure_workload(tiny, function)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["", " ", 5])
def test_a_name_is_text(tiny: EngineSetup, name: Any) -> None:
    with pytest.raises(ValueError, match="name: expected text that isn't blank, got "):
        perf.measure_workload(tiny, "a", name=name)
    with pytest.raises(ValueError, match="name: expected text that isn't blank, got "):
        perf.compare_configurations(tiny, tiny, "a", name=name)


def test_a_folder_without_stored_sessions_says_which_one_is_meant(tmp_path: Path) -> None:
    with pytest.raises(perf.BaselineError, match="nowhere: no such folder; sessions are stored by"):
        perf.read_sessions("nowhere")
    machine = tmp_path / "perf_baselines" / "machine"
    machine.mkdir(parents=True)
    assert perf.read_sessions() == []
    (machine / "20260101T000000Z_nocommit.json").write_text("{}")
    with pytest.raises(perf.BaselineError, match="json: is a file; name the folder that holds "):
        perf.read_sessions(machine / "20260101T000000Z_nocommit.json")
    with pytest.raises(
        perf.BaselineError, match=r"a machine's folder; name the one above it: .*es$"
    ):
        perf.read_sessions(machine)
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "perf_baselines" / "machine" / "20260101T000000Z_nocommit.json").unlink()
    assert perf.read_sessions(tmp_path) == []


def test_a_function_of_the_notebook_is_no_target() -> None:
    config = perf.configuration(llm={"engine": "app", "target": "__main__:answer"})
    with pytest.raises(perf.EngineError, match="functions of a notebook or script are not in the "):
        perf.measure_workload(config, "a")
