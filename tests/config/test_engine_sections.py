"""Each kind of engine has its own schema of the ``llm`` section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import outside_packages
import pytest

from pytest_llmperf.baselines.match import setting_differences
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.llm_section import (
    LLM_FIELDS,
    AppConfig,
    LlamaCppConfig,
    LlmConfig,
    ServerConfig,
    llm_schema,
    read_llm,
)
from pytest_llmperf.config.load import LoadedConfig, load_config
from pytest_llmperf.engine_kinds import GROUP

APP = "llm:\n  engine: app\n  target: myapp:answer\n"
KINDS = """
from pytest_llmperf.extension import EngineKind
PLAIN = EngineKind("plain", "acme:Engine")
CALLS = EngineKind("calls", "acme:Engine", needs="target")
LOADS = EngineKind("loads", "acme:Engine", needs="model", uses_llama_settings=True)
SCORES = EngineKind("scores", "acme:Engine", scores=True)
"""


def _load(
    root: Path, text: str, environ: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> LoadedConfig:
    (root / "config.yaml").write_text(text)
    return load_config(None, root, environ or {}, overrides)


def _message(root: Path, text: str, overrides: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(root, text, overrides=overrides)
    return str(caught.value)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Install a package that registers engines."""
    entries = {name: f"section_kinds:{name.upper()}" for name in ("plain", "calls", "loads")}
    entries["scores"] = "section_kinds:SCORES"
    outside_packages.install(
        monkeypatch, tmp_path / "site", "acme", GROUP, entries, section_kinds=KINDS
    )


def test_a_key_of_another_engine_is_refused_with_its_line_cause_and_fix(tmp_path: Path) -> None:
    text = f"{APP}  n_ctx: 512\n  n_thraeds: 1\n  n_threads: 0\n"
    assert _message(tmp_path, text).splitlines() == [
        "config.yaml:4: llm.n_ctx: is a setting of engine llama_cpp, and this section's engine is "
        "app; remove it, or set llm.engine: llama_cpp",
        "config.yaml:5: llm.n_thraeds: unknown key; did you mean 'n_threads'?",
        "config.yaml:6: llm.n_threads: expected auto or an integer >= 1, got 0",
    ]
    assert _message(tmp_path, APP, ["llm.flash_attn=true"]).startswith(
        "--llmperf-set llm.flash_attn: is a setting of engine llama_cpp, and this section's"
    )


def test_an_application_has_no_default_for_its_target(tmp_path: Path) -> None:
    assert _message(tmp_path, "llm:\n  engine: app\n") == (
        "config.yaml:2: llm.engine: engine app needs llm.target: the function to measure, as "
        "package.module:function, such as myapp.rag:answer"
    )


def test_a_layer_that_names_the_engine_goes_over_the_settings_of_another(tmp_path: Path) -> None:
    text = "llm:\n  model_path: a.gguf\n  n_ctx: 512\n  max_tokens: 9\n"
    loaded = _load(tmp_path, text, overrides=["llm.engine=app", "llm.target=myapp:answer"])
    assert loaded.config.llm == AppConfig(engine="app", target="myapp:answer", max_tokens=9)
    assert set(loaded.provenance) == {"llm.max_tokens", "llm.engine", "llm.target"}


def test_a_variable_holds_for_every_engine_that_has_its_setting(tmp_path: Path) -> None:
    environ = {"LLMPERF_LLM__N_CTX": "512", "LLMPERF_LLM__SEED": "7"}
    assert _load(tmp_path, APP, environ).config.llm.seed == 7
    loaded = _load(tmp_path, "llm:\n  seed: 1\n", environ)
    assert loaded.config.llm == LlamaCppConfig(n_ctx=512, seed=7)


def test_resolved_settings_are_a_section_again() -> None:
    for llm in (LlamaCppConfig(n_ctx=512), AppConfig(engine="app", target="myapp:answer")):
        assert read_llm(llm.resolved()).resolved() == llm.resolved()


def test_a_key_of_another_engine_is_refused_even_if_it_is_null(tmp_path: Path) -> None:
    refused = _message(tmp_path, "llm: {target: null}\n")
    assert "llm.target" in refused
    assert "is a setting of engine app, and this section's engine is llama_cpp" in refused


def test_a_section_without_an_engine_is_llama_cpps() -> None:
    assert read_llm({}) == LlamaCppConfig()
    own = (LlamaCppConfig, AppConfig, ServerConfig)
    assert set(LLM_FIELDS) == {key for schema in own for key in schema.model_fields}


@pytest.mark.usefixtures("packages")
def test_the_schema_of_a_packages_engine_follows_from_its_kind(tmp_path: Path) -> None:
    common = set(LlmConfig.model_fields) | {"n_threads", "n_threads_batch"}
    llama = set(LlamaCppConfig.model_fields)
    assert set(llm_schema("plain").model_fields) == common
    assert set(llm_schema("calls").model_fields) == common | {"target"}
    assert set(llm_schema("loads").model_fields) == llama
    assert set(llm_schema("scores").model_fields) == llama - {"model_path"}
    assert _load(tmp_path, "llm: {engine: plain, seed: 3}\n").config.llm.resolved()["seed"] == 3
    assert "engine calls needs llm.target" in _message(tmp_path, "llm: {engine: calls}\n")
    assert "is a setting of engine llama_cpp" in _message(
        tmp_path, "llm: {engine: plain, model_path: a.gguf}\n"
    )


def test_two_kinds_of_engines_differ_in_what_both_have_and_in_what_they_run() -> None:
    app = AppConfig(engine="app", target="myapp:answer", seed=1).resolved()
    differences = setting_differences(app, LlamaCppConfig().resolved())
    assert {difference.item for difference in differences} == {
        "llm.engine",
        "llm.target",
        "llm.model_path",
        "llm.seed",
    }
