"""Caches that hold fewer positions, or one state; layers and caches on several devices.

Devices that this machine lacks are represented by the lines that llama.cpp logs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf_files import (
    EMBEDDING,
    FEED_FORWARD,
    FLOAT,
    VOCABULARY,
    Load,
    Tensors,
    Write,
    gemma_keys,
    gemma_tensors,
    llama_keys,
    llama_tensors,
    split_gguf,
)

from pytest_llmperf.engine.model_reads import CacheReads, ModelReads, read_model_reads

MIB = 1 << 20
WINDOW = 64
#: Bytes of a layer's keys and values per position of the small Gemma, in 16-bit floats.
PER_LAYER = 2 * EMBEDDING * 2

LAYER = FLOAT * (4 * EMBEDDING**2 + 3 * EMBEDDING * FEED_FORWARD + 2 * EMBEDDING)
OUTPUT = FLOAT * (EMBEDDING * VOCABULARY + EMBEDDING)
ROW = FLOAT * EMBEDDING


def assigned(*devices: str) -> list[str]:
    """Return the log lines on the layers' devices, with the output layer's last."""
    return [
        f"load_tensors: layer {n:3} assigned to device {device}, is_swa = 0"
        for n, device in enumerate(devices)
    ]


def reads(
    write: Write, lines: Sequence[str], layers: int = 2, tensors: Tensors | None = None, **keys: int
) -> ModelReads:
    """Return the reads of a small model of which llama.cpp logged these lines."""
    model = write(llama_keys(layers, **keys), tensors or llama_tensors(layers, tied=False))
    return read_model_reads(model, lines, layers, {})


@pytest.mark.parametrize("swa_full", [False, True], ids=["small cache", "full-size cache"])
def test_layers_with_a_window_read_no_further_back(
    load: Load, write: Write, swa_full: bool
) -> None:
    model = write(gemma_keys(6, WINDOW), gemma_tensors(6))
    client = load(model, n_ctx=4096, n_batch=64, n_ubatch=64, extra={"swa_full": swa_full})
    found = client.info.reads
    assert found is not None
    cache = [found.bytes_at(depth)["CPU"] - found.weights["CPU"] for depth in (10, WINDOW, 1000)]
    expected = [6 * 10 * PER_LAYER, 6 * WINDOW * PER_LAYER, (5 * WINDOW + 1000) * PER_LAYER]
    assert cache == pytest.approx(expected, rel=0.02)


def test_layers_are_counted_on_the_device_they_are_on(write: Write) -> None:
    found = reads(write, assigned("CPU", "CUDA0", "CUDA1", "CUDA1"), layers=3)
    assert found.weights == {"CPU": ROW + LAYER, "CUDA0": LAYER, "CUDA1": LAYER + OUTPUT}


def test_a_tied_output_matrix_is_read_where_the_output_layer_is(write: Write) -> None:
    found = reads(write, assigned("CUDA0", "CUDA0", "CUDA0"), tensors=llama_tensors(2, tied=True))
    assert found.weights == {"CPU": ROW, "CUDA0": 2 * LAYER + OUTPUT}


def test_a_cache_kept_on_the_host_is_read_there(write: Write) -> None:
    found = reads(
        write,
        [
            *assigned("CUDA0", "CUDA0", "CUDA0"),
            "llama_kv_cache:        CPU KV buffer size =    64.00 MiB",
            "llama_kv_cache: size =   64.00 MiB (  1024 cells,   2 layers,  1/1 seqs), "
            "K (f16):   32.00 MiB, V (f16):   32.00 MiB",
        ],
    )
    assert found.caches == (CacheReads("CPU", 64 * MIB, 1024),)
    assert found.bytes_at(256) == {"CPU": ROW + 16 * MIB, "CUDA0": 2 * LAYER + OUTPUT}


def test_a_cache_on_several_devices_is_read_on_each(write: Write) -> None:
    found = reads(
        write,
        [
            *assigned("CPU", "CUDA0", "CUDA0"),
            "llama_kv_cache:        CPU KV buffer size =    10.00 MiB",
            "llama_kv_cache:      CUDA0 KV buffer size =    30.00 MiB",
            "llama_kv_cache: size =   40.00 MiB (   512 cells,   4 layers,  1/1 seqs), "
            "K (f16):   20.00 MiB, V (f16):   20.00 MiB",
        ],
    )
    assert [(cache.device, cache.bytes_at(256)) for cache in found.caches] == [
        ("CPU", 5 * MIB),
        ("CUDA0", 15 * MIB),
    ]


def test_the_state_of_recurrent_layers_is_read_whole_at_any_depth(write: Write) -> None:
    found = reads(
        write,
        [
            "llama_memory_recurrent:        CPU RS buffer size =    12.00 MiB",
            "llama_memory_recurrent: size =   12.00 MiB (     1 cells,  24 layers,  1 seqs "
            "0 rs_seq), R (f32):    2.00 MiB, S (f32):   10.00 MiB, P (f32):    0.00 MiB",
        ],
    )
    read = [cache.bytes_at(depth) for cache in found.caches for depth in (1, 5000)]
    assert read == [12 * MIB] * 2


def test_sparse_attention_makes_the_reads_unknown(write: Write) -> None:
    found = reads(write, ["llama_kv_cache_dsa: creating indexer KV cache, size = 4096 cells"])
    assert "sparse attention" in found.problem


def test_layers_that_predict_further_ahead_are_not_read(write: Write) -> None:
    more = dict(llama_tensors(3, tied=False))
    more["blk.2.nextn.eh_proj.weight"] = (2 * EMBEDDING, EMBEDDING)
    keys = llama_keys(3, nextn_predict_layers=1)
    # Older versions of llama.cpp count them among a model's layers.
    for layers in (2, 3):
        found = read_model_reads(write(keys, more), [], layers, {})
        assert found.weights == {"CPU": ROW + 2 * LAYER + OUTPUT}


def test_shared_experts_and_the_router_are_read_whole(write: Write) -> None:
    tensors = llama_tensors(2, experts=8, shared=32, tied=False)
    found = reads(write, [], tensors=tensors, expert_count=8, expert_used_count=2)
    dense = 3 * EMBEDDING * FEED_FORWARD
    extra = FLOAT * (dense + 8 * EMBEDDING + 3 * EMBEDDING * 32)
    assert found.weights == {"CPU": ROW + 2 * (LAYER + extra) + OUTPUT}


def test_experts_of_unknown_use_make_the_reads_unknown(write: Write) -> None:
    found = reads(write, [], tensors=llama_tensors(2, experts=8, tied=False), expert_count=8)
    assert "llama.expert_used_count" in found.problem


def test_what_generation_never_evaluates_is_not_read(write: Write) -> None:
    more = dict(llama_tensors(2, tied=False))
    more.update({"cls.weight": (EMBEDDING, 8), "v.blk.0.attn_q.weight": (EMBEDDING, EMBEDDING)})
    assert reads(write, [], tensors=more).weights == {"CPU": ROW + 2 * LAYER + OUTPUT}


def test_rows_split_over_several_gpus_are_unknown(write: Write) -> None:
    model = write(llama_keys(1), llama_tensors(1, tied=False))
    lines = assigned("CUDA0", "CUDA1")
    assert "row" in read_model_reads(model, lines, 1, {"split_mode": "row"}).problem
    assert read_model_reads(model, lines, 1, {"split_mode": "layer"}).problem == ""


def test_an_encoder_makes_the_reads_unknown(write: Write) -> None:
    more = {**llama_tensors(2, tied=False), "enc.blk.0.attn_q.weight": (EMBEDDING, EMBEDDING)}
    assert "encoder" in reads(write, [], tensors=more).problem


def test_a_missing_part_of_a_split_model_is_named(tmp_path: Path) -> None:
    whole = llama_tensors(1, tied=False)
    first = split_gguf(tmp_path / "big.gguf", llama_keys(1), whole, files=2)
    second = tmp_path / "big-00002-of-00002.gguf"
    second.unlink()
    assert read_model_reads(first, [], 1, {}).problem == f"{second} is missing"


def test_it_survives_the_way_over_the_wire(write: Write) -> None:
    found = ModelReads({"CPU": 5}, (CacheReads("CPU", 7, 8, 9),), 10)
    assert ModelReads.from_wire(found.to_wire()) == found
