from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ConfigError, ModelError
from pytest_llmperf.config.model_path import resolve_model


def _gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    return path


def _refusal(model_path: str, base_dir: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(model_path, base_dir, cache_dir=base_dir / "cache")
    return str(caught.value)


def test_a_file_is_found_relative_to_the_configuration(tmp_path: Path) -> None:
    file = _gguf(tmp_path / "models" / "a.gguf")
    assert resolve_model("models/a.gguf", tmp_path) == file


def test_an_absolute_file_is_found(tmp_path: Path) -> None:
    file = _gguf(tmp_path / "a.gguf")
    assert resolve_model(str(file), tmp_path / "elsewhere") == file


def test_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = _gguf(tmp_path / "a.gguf")
    assert resolve_model("~/a.gguf", Path("/")) == file


def test_a_missing_file_names_its_neighbours_and_the_embedded_models(tmp_path: Path) -> None:
    _gguf(tmp_path / "tiny-q4_0.gguf")
    message = _refusal("tiny-q4_1.gguf", tmp_path)
    assert message.startswith("model 'tiny-q4_1.gguf': no such file: ")
    assert "did you mean 'tiny-q4_0.gguf'?" in message
    assert "embedded models: smollm2-135m" in message


def test_a_missing_file_without_a_similar_one_lists_the_models_there(tmp_path: Path) -> None:
    _gguf(tmp_path / "zephyr.gguf")
    assert f"models in {tmp_path}: zephyr.gguf" in _refusal("abc", tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path / 'gone'}" in _refusal("gone/a.gguf", tmp_path)


def test_a_misspelt_embedded_model_is_recognised(tmp_path: Path) -> None:
    assert "did you mean the embedded model 'smollm2-135m'?" in _refusal("smolm2-135M", tmp_path)


def test_an_embedded_model_that_is_not_cached_says_how_to_get_it(tmp_path: Path) -> None:
    assert _refusal("smollm2-135m", tmp_path) == (
        "model 'smollm2-135m': this embedded model is not in the cache yet; "
        "run: llmperf model smollm2-135m"
    )


def test_a_directory_lists_the_models_in_it(tmp_path: Path) -> None:
    _gguf(tmp_path / "models" / "b.gguf")
    _gguf(tmp_path / "models" / "a.gguf")
    assert "is a directory; name one of its models: a.gguf, b.gguf" in _refusal("models", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; was its download cut short?"),
        (b"PK\x03\x04zip", r"is not a GGUF file (it starts with 'PK\x03\x04', expected 'GGUF')"),
        (b"GG", "is not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the model"),
    ],
)
def test_a_file_that_is_no_model_is_refused_before_it_is_loaded(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    assert message in _refusal("a.gguf", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.gguf")
    assert "is not a regular file" in _refusal("a.gguf", tmp_path)


@pytest.mark.parametrize("model_path", ["x" * 5000, "a\0b"])
def test_what_cannot_be_a_path_is_refused(tmp_path: Path, model_path: str) -> None:
    assert _refusal(model_path, tmp_path)


def test_another_scheme_is_refused(tmp_path: Path) -> None:
    assert "https:// is not supported; use hf://" in _refusal("https://host/a.gguf", tmp_path)


def test_a_model_error_is_a_configuration_error() -> None:
    assert issubclass(ModelError, ConfigError)
