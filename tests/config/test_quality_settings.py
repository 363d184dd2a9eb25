"""The section ``quality``: the reference that answers are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.schema import Config


def _load(folder: Path, text: str, *overrides: str) -> Config:
    (folder / "config.yaml").write_text(text)
    return load_config(folder / "config.yaml", folder, {}, overrides).config


def test_without_a_section_there_is_no_reference(tmp_path: Path) -> None:
    assert _load(tmp_path, "llm: {n_ctx: 512}").reference_llm is None
    assert _load(tmp_path, "quality: {reference: {}}").reference_llm is None


def test_what_a_reference_leaves_out_is_as_the_engine_has_it(tmp_path: Path) -> None:
    text = (
        "llm: {n_ctx: 512, flash_attn: true, type_k: q4_0, type_v: q4_0}\n"
        "quality: {reference: {model_path: fine.gguf, type_k: f16}}"
    )
    reference = _load(tmp_path, text, "quality.reference.type_v=q8_0").reference_llm
    assert reference is not None
    assert reference.model_path == "fine.gguf"
    assert (reference.type_k, reference.type_v) == ("f16", "q8_0")
    assert (reference.n_ctx, reference.flash_attn) == (512, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "quality: {reference: {model: a.gguf}}",
            "config.yaml:1: quality.reference.model: unknown key; did you mean 'model_path'?",
        ),
        (
            "quality: {reference: {type_k: q3}}",
            "config.yaml:1: quality.reference.type_k: expected f32, f16, bf16, q8_0",
        ),
        (
            "quality: {reference: fine.gguf}",
            "config.yaml:1: quality.reference: expected a mapping of keys, got 'fine.gguf'",
        ),
        (
            "llm: {flash_attn: true, type_v: q4_0}\nquality:\n  reference: {flash_attn: false}",
            "q4_0 values need flash attention; set llm.flash_attn: true",
        ),
    ],
)
def test_a_wrong_reference_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert message in str(caught.value)


def test_the_environment_sets_a_key_of_the_section(tmp_path: Path) -> None:
    config = load_config(None, tmp_path, {"LLMPERF_QUALITY__REFERENCE__TYPE_K": "f16"}).config
    assert config.reference_llm is not None
    assert config.reference_llm.type_k == "f16"
