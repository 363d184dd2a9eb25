"""Hints about a model that could not be loaded, from llama.cpp's own messages."""

from __future__ import annotations

import pytest

from pytest_llmperf.engine.load_hint import load_hint

FREE = "llama_prepare_model_devices: using device CUDA0 (NVIDIA L4) (0000:01:00.0) - 2048 MiB free"
FAILED = "alloc_tensor_range: failed to allocate CUDA0 buffer of size 4608098304"


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF rest")
    return str(file)


@pytest.mark.parametrize(
    ("line", "use", "remedy"),
    [
        ("unable to allocate CUDA0 buffer", "the model's weights", "fewer llm.n_gpu_layers"),
        ("failed to allocate buffer for kv cache", "the KV cache", "a smaller llm.n_ctx"),
        ("failed to allocate compute pp buffers", "computing", "a smaller llm.n_ubatch"),
    ],
)
def test_too_little_memory_names_the_device_its_use_and_the_change(model, line, use, remedy):
    hint = load_hint(model, [FREE, FAILED, f"llama_model_load: error: {line}"])

    assert hint.startswith(
        f"too little memory on CUDA0 for {use} (needs 4394 MiB, 2048 MiB were free): {remedy}"
    )


def test_a_size_that_is_not_logged_is_left_out(model):
    hint = load_hint(model, ["failed to allocate buffer for kv cache"])

    assert hint.startswith("too little memory for the KV cache: ")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (
            "invalid value for main_gpu: 3 (available devices: 1)",
            "llm.main_gpu is 3, and the number of GPUs is 1: 0 is the first",
        ),
        (
            "error loading model: device Vulkan0 does not support split buffers",
            "Vulkan0 can't share rows with other GPUs: set llm.split_mode: layer",
        ),
        (
            "model does not support different K (f16) and V (q8_0) cache types",
            "this model keeps keys and values in one type: set llm.type_k and llm.type_v to the "
            "same type",
        ),
        (
            "llama_init_from_model: failed to initialize the context: std::bad_alloc",
            "too little memory for the context: a smaller llm.n_ctx",
        ),
        (
            "llama_init_from_model: failed to initialize the context: n_seq_max must be <= 256",
            "a setting in llm does not fit this model or machine: n_seq_max must be <= 256",
        ),
    ],
)
def test_a_setting_that_the_machine_cannot_meet_is_named(model, line, hint):
    assert load_hint(model, [line]) == hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("error loading model: CLIP cannot be used as main model, use it with --mmproj", "mmproj"),
        ("error loading model vocabulary: unknown pre-tokenizer type: 'new'", "tokenizer, 'new'"),
        ("error loading model: missing tensor 'blk.0.attn_q.weight'", "blk.0.attn_q.weight"),
        ("llama_model_loader: failed to load GGUF split from a-00002-of-00003.gguf", "a-00002"),
    ],
)
def test_a_file_that_is_refused_is_not_taken_for_a_lack_of_memory(model, line, hint):
    assert hint in load_hint(model, [FREE, line])
    assert "memory" not in load_hint(model, [FREE, line])


def test_an_argument_of_a_wrong_kind_is_not_the_file(model):
    hint = load_hint(model, [FREE], TypeError("must be real number"), ["rope_freq_base"])
    assert hint.endswith("check llm.extra (rope_freq_base)")


def test_without_such_words_it_is_the_file(model, tmp_path):
    assert "may be truncated" in load_hint(model, [FREE])
    (tmp_path / "text").write_text("hello")
    assert load_hint(str(tmp_path / "text"), [FREE]) == "the file is not a GGUF model"
