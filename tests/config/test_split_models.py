"""Models in several files: all files belong to the model, and none may be missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_models import tiny_llama, tiny_lora

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.gguf import model_files
from pytest_llmperf.config.model_files import ModelFiles
from pytest_llmperf.config.model_path import resolve_model


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The first of three files of a model, copied so that a test may change them."""
    source = tiny_llama(shards=3)
    shutil.copytree(source.parent, tmp_path / "models")
    return tmp_path / "models" / source.name


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def part(first: Path, number: int) -> Path:
    return first.with_name(first.name.replace("-00001-", f"-{number:05d}-"))


def replace_end(file: Path) -> None:
    """Change the last weights of a file, and keep its size."""
    data = file.read_bytes()
    file.write_bytes(data[:-64] + bytes(64))


def refusal(file: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(file.name, file.parent)
    return str(caught.value)


def test_all_parts_are_the_model(first: Path) -> None:
    assert resolve_model(str(first), first.parent) == first
    assert model_files(first) == tuple(part(first, number) for number in (1, 2, 3))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_another_part_is_another_model(first: Path, cache: Path, number: int) -> None:
    before = ModelFiles.of(first).sha256(cache)
    assert ModelFiles.of(first).sha256(cache) == before
    replace_end(part(first, number))
    assert ModelFiles.of(first).sha256(cache) != before


def test_where_the_files_lie_and_what_they_are_called_is_not_the_model(
    first: Path, cache: Path
) -> None:
    before = ModelFiles.of(first).sha256(cache)
    for number in (1, 2, 3):
        part(first, number).rename(first.with_name(f"renamed-{number:05d}-of-00003.gguf"))
    assert ModelFiles.of(first.with_name("renamed-00001-of-00003.gguf")).sha256(cache) == before


def test_its_size_is_that_of_all_parts(first: Path) -> None:
    sizes = [file.stat().st_size for file in first.parent.iterdir()]
    assert ModelFiles.of(first).size_bytes == sum(sizes)


def test_a_missing_part_is_named(first: Path) -> None:
    part(first, 2).unlink()
    assert refusal(first).endswith(
        f"the model is in 3 files, of which {part(first, 2).name} is missing in {first.parent}; "
        "put it beside the first"
    )
    part(first, 3).unlink()
    assert f"{part(first, 2).name} and 1 more are missing" in refusal(first)


def test_a_part_that_is_no_model_file_is_named(first: Path) -> None:
    part(first, 3).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert f"{part(first, 3)} is a Git LFS pointer" in refusal(first)


def test_another_part_than_the_first_is_refused(first: Path) -> None:
    assert f"{part(first, 2).name} is part 2 of a model in 3 files; name the first, " in refusal(
        part(first, 2)
    )


def test_a_first_part_whose_name_counts_wrongly_is_refused(first: Path) -> None:
    wrong = first.rename(first.with_name("tiny-00001-of-00002.gguf"))
    assert "rename it to tiny-00001-of-00003.gguf" in refusal(wrong)


def test_a_whole_model_may_be_called_like_a_part(tmp_path: Path, cache: Path) -> None:
    whole = shutil.copy(tiny_llama(), tmp_path / "merged-00001-of-00009.gguf")
    assert resolve_model(str(whole), tmp_path) == whole
    assert ModelFiles.of(whole).sha256(cache) == ModelFiles.of(tiny_llama()).sha256(cache)


def test_a_damaged_header_is_left_to_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "tiny-00001-of-00002.gguf"
    for content in (b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 40, b""):
        file.write_bytes(content)
        assert model_files(file) == (file,)


def test_files_that_the_engine_is_given_beside_the_model_are_part_of_it(
    tmp_path: Path, cache: Path
) -> None:
    model, adapter = tiny_llama(), tmp_path / "adapter.gguf"
    shutil.copy(tiny_lora(), adapter)
    alone = ModelFiles.of(model).sha256(cache)

    def adapted(**extra: object) -> str:
        return ModelFiles.of(model, extra, tmp_path).sha256(cache)

    before = adapted(lora_path="adapter.gguf")
    assert before != alone
    assert adapted(lora_path=str(adapter)) == before
    assert adapted(lora_base="adapter.gguf") != before
    assert adapted(paths=[{"of": "adapter.gguf"}]) not in (alone, before)
    # Values that name no file do not count, nor do metadata that look like a file's name.
    assert adapted(lora_path="none.gguf", numa=True, rope_freq_base=1.0) == alone
    assert adapted(kv_overrides={"tokenizer.ggml.pre": "adapter.gguf"}) == alone
    replace_end(adapter)
    assert adapted(lora_path="adapter.gguf") != before


def test_a_model_in_one_file_keeps_the_hash_of_its_file(cache: Path) -> None:
    # Otherwise every baseline recorded so far would belong to another model.
    from pytest_llmperf.config.embedded import file_sha256

    assert ModelFiles.of(tiny_llama()).sha256(cache) == file_sha256(tiny_llama(), cache)
