from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.load import LoadedConfig, load_config
from pytest_llmperf.cpus import auto_threads, usable_cpus


def _load(
    root: Path,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> LoadedConfig:
    if text is not None:
        (root / "config.yaml").write_text(text)
    return load_config(None, root, environ or {}, overrides)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    loaded = _load(tmp_path)
    assert loaded.path is None
    assert loaded.provenance == {}
    assert loaded.base_dir == tmp_path
    assert (loaded.config.llm.n_ctx, loaded.config.llm.n_batch) == (2048, 1024)
    assert (loaded.config.perf.processes, loaded.config.perf.tolerance) == (3, 0.05)


def test_the_file_overrides_the_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path, "llm:\n  n_batch: 700\n").config.llm.n_batch == 700


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "llm:\n  n_batch: 700\n", {"LLMPERF_LLM__N_BATCH": "600"})
    assert loaded.config.llm.n_batch == 600


def test_the_command_line_overrides_the_environment(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        "llm:\n  n_batch: 700\n",
        {"LLMPERF_LLM__N_BATCH": "600"},
        ["llm.n_batch=513", "llm.n_batch=512"],
    )
    assert loaded.config.llm.n_batch == 512


def test_every_value_knows_its_layer(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        "llm:\n  n_ctx: 512\n  seed: 1\n",
        {"LLMPERF_LLM__SEED": "2"},
        ["perf.targets.first_token=3s"],
    )
    assert loaded.provenance == {
        "llm.n_ctx": "config.yaml:2",
        "llm.seed": "environment LLMPERF_LLM__SEED",
        "perf.targets.first_token": "--llmperf-set perf.targets.first_token",
    }


def test_one_target_can_be_set_beside_those_of_the_file(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        "perf:\n  targets: {tokens_per_sec: 30 tok/s, first_token: 2s}\n",
        {"LLMPERF_PERF__TARGETS__FIRST_TOKEN": "500ms"},
    )
    assert loaded.config.perf.targets == {"tokens_per_sec": 30.0, "first_token": 0.5}


def test_a_later_layer_can_take_a_target_back(tmp_path: Path) -> None:
    text = "perf:\n  targets: {tokens_per_sec: 30, first_token: 2s}\n"
    loaded = _load(tmp_path, text, overrides=["perf.targets.first_token=null"])
    assert loaded.config.perf.targets == {"tokens_per_sec": 30.0}


def test_a_later_layer_can_replace_all_targets(tmp_path: Path) -> None:
    text = "perf:\n  targets: {tokens_per_sec: 30}\n"
    loaded = _load(tmp_path, text, overrides=["perf.targets={end_to_end: 9s}"])
    assert loaded.config.perf.targets == {"end_to_end": 9.0}


def test_values_in_the_environment_are_read_as_yaml(tmp_path: Path) -> None:
    environ = {
        "LLMPERF_LLM__USE_MMAP": "false",
        "LLMPERF_LLM__TENSOR_SPLIT": "[0.5, 0.5]",
        "LLMPERF_LLM__CHAT_FORMAT": "null",
        "LLMPERF_LLM__MODEL_PATH": "/a=b/c.gguf",
        "LLMPERF_LLM__EXTRA__ROPE_FREQ_BASE": "10000.0",
        "LLMPERF_PERF__BUDGET": "90s",
    }
    config = _load(tmp_path, environ=environ).config
    assert config.llm.use_mmap is False
    assert config.llm.tensor_split == [0.5, 0.5]
    assert config.llm.chat_format is None
    assert config.llm.model_path == "/a=b/c.gguf"
    assert config.llm.extra == {"rope_freq_base": 10000.0}
    assert config.perf.budget == 90.0


def test_only_the_first_equals_sign_of_an_override_splits(tmp_path: Path) -> None:
    loaded = _load(tmp_path, overrides=["llm.model_path=/a=b/c.gguf"])
    assert loaded.config.llm.model_path == "/a=b/c.gguf"


def test_other_variables_of_the_environment_are_left_alone(tmp_path: Path) -> None:
    loaded = _load(tmp_path, environ={"LLMPERF_CACHE_DIR": "/x", "PATH": "/bin", "A__B": "1"})
    assert loaded.provenance == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LLMPERF_LLM_N_CTX", "two underscores follow the section; did you mean LLMPERF_LLM__N_CT"),
        ("LLMPERF_LLAMA__N_CTX", "expected a key of the section llm, perf, quality or tune"),
        ("LLMPERF_LLM__", "expected a key of the section llm, perf, quality or tune"),
        ("LLMPERF_LLM__N_CTXX", "unknown key; did you mean 'n_ctx'?"),
    ],
)
def test_a_misnamed_variable_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, environ={name: "5"})
    assert str(caught.value).startswith(f"environment {name}: {message}")


@pytest.mark.parametrize("override", ["n_ctx=5", "llm=5", "llm.=5", "llama.n_ctx=5", "=", ""])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"--llmperf-set .*: expected"):
        _load(tmp_path, overrides=[override])


def test_an_override_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, overrides=["llm.extra={a: ", "llm.n_ctx=lots"])
    first, second = str(caught.value).splitlines()
    assert first.startswith("--llmperf-set llm.extra: not valid YAML")
    assert second.startswith("--llmperf-set llm.n_ctx: ")


def test_an_override_below_a_plain_value_is_blamed_on_the_override(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set llm\.n_ctx\.x: llm\.n_ctx: expected an integer"):
        _load(tmp_path, "llm:\n  n_ctx: 512\n", overrides=["llm.n_ctx.x=1"])


def test_a_problem_inside_a_mapping_from_the_environment_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, environ={"LLMPERF_PERF__TARGETS": "{first_token: 3, end_to_end: '4'}"})
    assert "environment LLMPERF_PERF__TARGETS: perf.targets.end_to_end: " in str(caught.value)


def test_a_section_of_comments_only_counts_as_left_out(tmp_path: Path) -> None:
    assert _load(tmp_path, "llm:\n  # n_ctx: 1\n").config.llm.n_ctx == 2048


def test_a_named_file_is_read_wherever_it_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "gpu.yaml").write_text("perf:\n  baselines: kept\n")
    loaded = load_config(elsewhere / "gpu.yaml", tmp_path, {})
    assert loaded.provenance == {"perf.baselines": f"{Path('elsewhere') / 'gpu.yaml'}:2"}
    assert loaded.baselines_dir == elsewhere / "kept"


def test_more_threads_than_cpus_are_kept_and_warned_about(tmp_path: Path) -> None:
    threads = usable_cpus() + 1
    loaded = _load(tmp_path, overrides=[f"llm.n_threads={threads}"])
    assert loaded.config.llm.n_threads == threads
    assert len(loaded.warnings) == 1
    assert f"llm.n_threads is {threads}, but this process may use only" in loaded.warnings[0]


def test_as_many_threads_as_cpus_are_not_warned_about(tmp_path: Path) -> None:
    assert _load(tmp_path, overrides=[f"llm.n_threads={usable_cpus()}"]).warnings == ()


def test_resolved_settings_are_plain_and_hold_no_auto(tmp_path: Path) -> None:
    import json

    llm = _load(tmp_path, "llm:\n  n_batch: 128\n  load_timeout: 2m\n").config.llm
    settings = llm.resolved()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["n_threads"] == settings["n_threads_batch"] == auto_threads()
    assert settings["load_timeout"] == 120.0


def test_a_default_ubatch_is_lowered_to_the_batch(tmp_path: Path) -> None:
    assert _load(tmp_path, "llm:\n  n_batch: 128\n").config.llm.resolved()["n_ubatch"] == 128


def test_resolved_settings_name_the_model_file_only_when_asked(tmp_path: Path) -> None:
    llm = _load(tmp_path).config.llm
    assert llm.resolved()["model_path"] == "smollm2-135m"
    assert llm.resolved(tmp_path / "a.gguf")["model_path"] == str(tmp_path / "a.gguf")


def test_a_word_is_a_flag_or_text_as_its_key_asks(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        "llm:\n  flash_attn: yes\n  chat_format: no\n  model_path: on\n",
        {"LLMPERF_LLM__USE_MMAP": "off"},
        ["llm.extra.rope_freq_base=1e6"],
    )
    llm = loaded.config.llm
    assert (llm.flash_attn, llm.use_mmap) == (True, False)
    assert (llm.chat_format, llm.model_path) == ("no", "on")
    assert llm.extra == {"rope_freq_base": 1e6}


@pytest.mark.parametrize("text", ["m\udcc3\udcb6del.gguf", "mödel.gguf"])
def test_text_that_python_could_not_decode_is_what_was_typed(tmp_path: Path, text: str) -> None:
    """With an ASCII locale, arguments and variables hold surrogates; the system uses UTF-8."""
    loaded = _load(tmp_path, None, {"LLMPERF_PERF__BASELINES": text}, [f"llm.model_path={text}"])
    assert loaded.config.llm.model_path == "mödel.gguf"
    assert loaded.config.perf.baselines == "mödel.gguf"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, None, {}, ["llm.model_path=m\udcffdel.gguf"])
    assert str(caught.value).startswith("--llmperf-set llm.model_path: the value is not UTF-8;")
