"""Other quantizations of a model in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.models.file_types import quantized_beside


def beside(folder: Path, name: str, *others: str) -> dict[str, str]:
    for file_name in (name, *others):
        (folder / file_name).write_text(file_name)
    return {kind: file.name for kind, file in quantized_beside(folder / name).items()}


def test_files_that_lose_little_are_found_the_preferred_one_first(tmp_path: Path) -> None:
    names = ("chat-Q4_K_S.gguf", "chat-Q5_K_M.gguf", "chat-Q2_K.gguf", "other-Q8_0.gguf")
    found = beside(tmp_path, "chat-F16.gguf", *names)
    assert [*found.items()] == [("Q5_K_M", "chat-Q5_K_M.gguf"), ("Q4_K_S", "chat-Q4_K_S.gguf")]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("qwen2.5-7b-instruct-fp16.gguf", "qwen2.5-7b-instruct-q4_k_m.gguf"),
        ("chat-F16.gguf", "Chat-q4_k_m.GGUF"),
        ("chat-f16.GGUF", "chat-Q4_K_M.gguf"),
    ],
)
def test_names_are_compared_in_any_case(tmp_path: Path, name: str, other: str) -> None:
    assert beside(tmp_path, name, other) == {"Q4_K_M": other}


def test_a_quantized_file_does_not_find_itself(tmp_path: Path) -> None:
    name = "chat-q4_k_m.gguf"
    # This simulates a case-insensitive file system.
    (tmp_path / "chat-Q4_K_M.gguf").symlink_to(name)
    assert beside(tmp_path, name, "chat-q8_0.gguf") == {"Q8_0": "chat-q8_0.gguf"}


def test_the_usual_name_is_taken_where_both_cases_are_there(tmp_path: Path) -> None:
    found = beside(tmp_path, "chat-f16.gguf", "chat-q8_0.gguf", "chat-Q8_0.gguf")
    assert found == {"Q8_0": "chat-Q8_0.gguf"}


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "chat-Q8_0.gguf").mkdir()
    assert beside(tmp_path, "chat-F16.gguf") == {}


@pytest.mark.parametrize("path", ["none/chat-F16.gguf", "hf://owner/repo/chat-F16.gguf", ""])
def test_a_model_that_is_no_file_here_has_none(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert quantized_beside(Path(path)) == {}
