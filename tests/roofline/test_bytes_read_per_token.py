"""Bytes of weights and cache that a decode step reads, as the real engine reports them."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_files import (
    EMBEDDING,
    FEED_FORWARD,
    FLOAT,
    VOCABULARY,
    Load,
    Write,
    llama_keys,
    llama_tensors,
    split_gguf,
)

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.model_reads import ModelReads

LAYERS = 2
#: Sizes of parts of the small models, in 32-bit floats.
ATTENTION = 4 * EMBEDDING * EMBEDDING
DENSE = 3 * EMBEDDING * FEED_FORWARD
NORMS = (2 * LAYERS + 1) * EMBEDDING
MATRIX = EMBEDDING * VOCABULARY


def reads_of(info: EngineInfo) -> ModelReads:
    assert info.reads is not None
    assert info.reads.problem == ""
    return info.reads


def test_of_the_embedding_one_row_is_read_and_of_the_output_matrix_all(
    load: Load, write: Write
) -> None:
    model = write(llama_keys(LAYERS), llama_tensors(LAYERS, tied=False))
    floats = EMBEDDING + LAYERS * (ATTENTION + DENSE) + NORMS + MATRIX
    reads = reads_of(load(model).info)
    assert reads.weights == {"CPU": FLOAT * floats}
    assert reads.model_bytes == FLOAT * (floats - EMBEDDING + MATRIX)


def test_an_embedding_that_is_the_output_matrix_too_is_read_whole(load: Load, write: Write) -> None:
    model = write(llama_keys(LAYERS), llama_tensors(LAYERS, tied=True))
    floats = EMBEDDING + LAYERS * (ATTENTION + DENSE) + NORMS + MATRIX
    assert reads_of(load(model).info).weights == {"CPU": FLOAT * floats}


def test_of_eight_experts_the_two_that_a_token_uses_are_read(load: Load, write: Write) -> None:
    keys = llama_keys(LAYERS, expert_count=8, expert_used_count=2)
    model = write(keys, llama_tensors(LAYERS, experts=8, tied=False))
    router = 8 * EMBEDDING
    floats = EMBEDDING + LAYERS * (ATTENTION + router + 2 * DENSE) + NORMS + MATRIX
    assert reads_of(load(model).info).weights == {"CPU": FLOAT * floats}


def test_the_number_of_experts_that_the_configuration_sets_counts(load: Load, write: Write) -> None:
    keys = llama_keys(LAYERS, expert_count=8, expert_used_count=2)
    model = write(keys, llama_tensors(LAYERS, experts=8, tied=False))
    three = {"kv_overrides": {"llama.expert_used_count": 3}}
    router = 8 * EMBEDDING
    floats = EMBEDDING + LAYERS * (ATTENTION + router + 3 * DENSE) + NORMS + MATRIX
    assert reads_of(load(model, extra=three).info).weights == {"CPU": FLOAT * floats}


def test_a_split_model_is_counted_over_all_its_files(load: Load, tmp_path: Path) -> None:
    tensors = llama_tensors(LAYERS, tied=False)
    model = split_gguf(tmp_path / "tiny.gguf", llama_keys(LAYERS), tensors, files=3)
    floats = EMBEDDING + LAYERS * (ATTENTION + DENSE) + NORMS + MATRIX
    info = load(model).info
    assert reads_of(info).weights == {"CPU": FLOAT * floats}
    assert info.file_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    # llama.cpp's log rounds to hundredths of a MiB.
    assert info.mapped_bytes(locked=False) > 0.9 * info.model_bytes


def test_the_embedded_model_reads_all_its_weights(load: Load, model_file: Path) -> None:
    info = load(model_file).info
    reads = reads_of(info)
    row_of_the_embedding = 576 // 32 * 34
    assert reads.weights == {"CPU": info.model_bytes + row_of_the_embedding}
    assert reads.model_bytes == info.model_bytes


@pytest.mark.parametrize(
    ("changes", "per_position"),
    [
        ({}, 30 * 3 * 64 * 2 * 2),
        # 32 values in 34 bytes.
        ({"type_k": "q8_0"}, 30 * 3 * 64 * (2 + 34 / 32)),
        ({"type_k": "q8_0", "type_v": "q4_0", "flash_attn": True}, 30 * 3 * 64 * (34 + 18) / 32),
    ],
    ids=["f16", "q8_0 keys", "q8_0 keys, q4_0 values"],
)
def test_the_cache_is_read_up_to_the_depth(
    load: Load, model_file: Path, changes: dict[str, object], per_position: float
) -> None:
    reads = reads_of(load(model_file, **changes).info)
    cache = [reads.bytes_at(depth)["CPU"] - reads.weights["CPU"] for depth in (1, 100, 512)]
    # llama.cpp prints sizes to a hundredth of a MiB.
    assert cache == pytest.approx([per_position, 100 * per_position, 512 * per_position], rel=0.002)


def test_an_application_does_not_say_what_it_reads() -> None:
    assert (
        EngineInfo.from_wire({"engine": "app", "engine_version": "1", "model_name": "x"}).reads
        is None
    )
