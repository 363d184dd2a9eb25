"""Every way a setting can be wrong, and its error message."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.load import load_config


def _message(tmp_path: Path, text: str, **kwargs: object) -> str:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(None, tmp_path, **{"environ": {}, **kwargs})  # type: ignore[arg-type]
    return str(caught.value)


_EXPECTED = {
    "n_batchh: 1": "llm.n_batchh: unknown key; did you mean 'n_batch'?",
    "N-Ctx: 1": "llm.N-Ctx: unknown key; did you mean 'n_ctx'?",
    "tolerance: 5%": "llm.tolerance: unknown key here; did you mean 'perf.tolerance'?",
    "n_ctx: lots": "llm.n_ctx: expected an integer >= 1, got 'lots'",
    "n_ctx: '512'": "llm.n_ctx: expected an integer >= 1, got '512'",
    "n_ctx: 1.5": "llm.n_ctx: expected an integer >= 1, got 1.5",
    "n_ctx: true": "llm.n_ctx: expected an integer >= 1, got true",
    "n_ctx: 0": "llm.n_ctx: expected an integer >= 1, got 0",
    "n_ctx:": "llm.n_ctx: expected an integer >= 1, got nothing (null)",
    "n_ctx: {a: 1}": "llm.n_ctx: expected an integer >= 1, got a mapping",
    "n_threads: all": "llm.n_threads: expected auto or an integer >= 1, got 'all'",
    "n_threads_batch: 0": "llm.n_threads_batch: expected auto or an integer >= 1, got 0",
    "n_gpu_layers: -2": "llm.n_gpu_layers: expected an integer >= -1 (-1: all layers), got -2",
    "main_gpu: -1": "llm.main_gpu: expected an integer >= 0, got -1",
    "seed: -1": "llm.seed: expected an integer from 0 to 4294967295, got -1",
    "model_path: 5": "llm.model_path: expected text, got 5; put quotes around it",
    "model_path: ''": "llm.model_path: expected text, got ''",
    "use_mmap: 'yes'": "llm.use_mmap: expected true or false, got 'yes'",
    "use_mlock: 1": "llm.use_mlock: expected true or false, got 1",
    "split_mode: rows": "llm.split_mode: expected none, layer or row, got 'rows'",
    "engine: vllm": "llm.engine: no engine 'vllm' is installed (installed: ",
    "engine: llama-cp": "llm.engine: no engine 'llama-cp' is installed (installed: ",
    "engine: 3": "llm.engine: expected the name of an engine, such as llama_cpp, app or server, g",
    "engine: app": "llm.engine: engine app needs llm.target",
    "target: a:b": "llm.target: is a setting of engine app, and this section's engine is llama_cpp",
    "type_k: q9": "llm.type_k: expected f32, f16, bf16, q8_0",
    "type_v: q8_0": "llm.type_v: q8_0 values need flash attention; set llm.flash_attn: true",
    "tensor_split: []": "llm.tensor_split: expected a list of numbers >= 0, one per device",
    "tensor_split: [1, -1]": "llm.tensor_split: expected a list of numbers >= 0, one per device",
    "tensor_split: [0, 0]": "llm.tensor_split: at least one share must be above 0",
    "chat_format: []": "llm.chat_format: expected text, got a list",
    "load_timeout: '5'": "llm.load_timeout: expected a duration such as 500ms, 5s, got '5' (no un",
    "load_timeout: 0s": "llm.load_timeout: expected a duration above 0",
    "generation_timeout: .nan": "llm.generation_timeout: expected a duration such as 500ms, 5s",
    "max_tokens: 4096": "llm.max_tokens: max_tokens (4096) must be smaller than n_ctx (2048)",
    "n_ctx: 128": "llm.n_ctx: max_tokens (256) must be smaller than n_ctx (128)",
    "n_ubatch: 4096": "llm.n_ubatch: n_ubatch (4096) must not be larger than n_batch (1024)",
    "extra: 3": "llm.extra: expected a mapping of the engine's own arguments, got 3",
    "extra: {n_ctx: 3}": "llm.extra.n_ctx: is not an extra argument but a setting; set",
    "extra: {a: 2020-01-01}": "llm.extra.a: a date cannot be passed on",
    "extra: {a: [no]}": "llm.extra.a: no may be a word or false; write false, or put quotes",
    "extra: {a: [.inf]}": "llm.extra.a: inf is not a finite number",
}


@pytest.mark.parametrize("setting", _EXPECTED)
def test_a_wrong_llm_setting_gets_its_sentence(tmp_path: Path, setting: str) -> None:
    message = _message(tmp_path, f"llm:\n  {setting}\n")
    assert message.startswith(f"config.yaml:2: {_EXPECTED[setting]}")
    assert len(message.splitlines()) == 1


_PERF_EXPECTED = {
    "tolerance: 5": "perf.tolerance: expected a percentage such as 5% or a fraction below 1",
    "tolerance: 0%": "perf.tolerance: expected a percentage above 0% and below 100%",
    "processes: 0": "perf.processes: expected an integer >= 1, got 0",
    "iterations: 2": "perf.iterations: expected an integer from 3 to 25, got 2",
    "warmup_max: 0": "perf.warmup_max: expected an integer >= 1, got 0",
    "budget: -1s": "perf.budget: expected a duration such as 500ms, 5s, got '-1s' (negative)",
    "baselines:": "perf.baselines: expected text, got nothing (null)",
    "targets: 3": "perf.targets: expected a mapping of metrics to limits, got 3",
    "targets: {frist_token: 3s}": "perf.targets.frist_token: unknown metric 'frist_token'; did you",
    "targets: {first_token: '3'}": "perf.targets.first_token: expected a duration such as 500ms",
    "targets: {tokens_per_sec: 5s}": "perf.targets.tokens_per_sec: expected a rate such as 60",
    "targets: {end_to_end: 0}": "perf.targets.end_to_end: expected a limit above 0, got 0",
}


@pytest.mark.parametrize("setting", _PERF_EXPECTED)
def test_a_wrong_perf_setting_gets_its_sentence(tmp_path: Path, setting: str) -> None:
    assert _message(tmp_path, f"perf:\n  {setting}\n").startswith(
        f"config.yaml:2: {_PERF_EXPECTED[setting]}"
    )


def test_all_problems_are_listed_by_layer_and_line(tmp_path: Path) -> None:
    message = _message(
        tmp_path,
        "perf:\n  iterations: 90\nllm:\n  n_ctx: lots\n  n_batchh: 1\nother: 1\n",
        environ={"LLMPERF_LLM__N_BATCH": "x"},
        overrides=["llm.seed=-1", "perf.budget"],
    )
    assert message.splitlines() == [
        "config.yaml:2: perf.iterations: expected an integer from 3 to 25, got 90",
        "config.yaml:4: llm.n_ctx: expected an integer >= 1, got 'lots'",
        "config.yaml:5: llm.n_batchh: unknown key; did you mean 'n_batch'?",
        "config.yaml:6: other: unknown key (known: llm, perf, quality, tune)",
        "environment LLMPERF_LLM__N_BATCH: expected an integer >= 1, got 'x'",
        "--llmperf-set llm.seed: expected an integer from 0 to 4294967295, got -1",
        "--llmperf-set perf.budget: expected section.key=value such as llm.n_batch=512",
    ]


def test_a_problem_inside_a_list_names_the_items_line(tmp_path: Path) -> None:
    text = "llm:\n  tensor_split:\n  - 0.5\n  - half\n"
    assert _message(tmp_path, text).startswith("config.yaml:2: llm.tensor_split: ")


def test_braces_in_a_value_are_shown_as_they_are(tmp_path: Path) -> None:
    assert "'{x}'" in _message(tmp_path, "perf:\n  targets: {first_token: '{x}'}\n")


def test_a_file_of_another_program_gets_a_hint(tmp_path: Path) -> None:
    message = _message(tmp_path, "server:\n  port: 80\n")
    assert "config.yaml:1: server: unknown key (known: llm, perf, quality, tune)" in message
    assert "belongs to another program" in message


def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    message = _message(tmp_path, "llm: fast\n")
    assert message == "config.yaml:1: llm: expected a mapping of keys, got 'fast'"


def test_a_named_file_that_is_missing_is_an_error_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "confg.yaml").write_text("llm:\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "config.yaml", tmp_path, {})
    assert str(caught.value) == "config.yaml: no such file; did you mean 'confg.yaml'?"


def test_a_named_file_in_a_missing_folder_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file \(there is no folder "):
        load_config(tmp_path / "gone" / "config.yaml", tmp_path, {})
