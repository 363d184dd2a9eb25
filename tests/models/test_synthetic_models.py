"""Synthetic models: llama.cpp loads them, and they weigh and generate as real ones do."""

from __future__ import annotations

import builtins
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tiny_models import tiny_llama

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.models import model_output, synthetic
from pytest_llmperf.models.blocks import RANDOM_TYPES, RandomWeights
from pytest_llmperf.models.blueprint import Tensor
from pytest_llmperf.models.file_types import FILE_TYPES, is_quantized, layer_of
from pytest_llmperf.models.gguf_files import write_blueprint
from pytest_llmperf.models.presets import PRESETS, Preset, preset_blueprint
from pytest_llmperf.models.synthetic import default_file_name, synthesize

#: Numbers of parameters in the models' own files, norms and biases included.
PUBLISHED = {
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "olmoe-1b-7b": 6_919_161_856,
}
SMALL = {"layers": 2, "width": 256, "heads": 4, "inner": 512, "words": 600}


def small(name: str, **changes: Any) -> Preset:
    """Return a small version of a preset that keeps its peculiarities."""
    preset = PRESETS[name]
    shared = max(1, 4 * preset.kv_heads // preset.heads)
    return replace(preset, **{**SMALL, "kv_heads": shared, **changes})


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Preset]:
    """Small versions of the presets, by name."""
    small_presets = {name: small(name) for name in PRESETS}
    monkeypatch.setattr(synthetic, "PRESETS", small_presets)
    return small_presets


def types(file: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}


def ignore(_done: int, _whole: int) -> None:
    """No progress to show."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    tensors = preset_blueprint(PRESETS[name], name).tensors
    counted = [math.prod(tensor.shape) for tensor in tensors if tensor.name != "rope_freqs.weight"]
    assert sum(counted) == PUBLISHED[name]
    biases = [tensor.name for tensor in tensors if tensor.name.endswith("bias")]
    assert len(biases) == (3 * PRESETS[name].layers if "qwen" in name else 0)


@pytest.mark.parametrize("name", ["llama-3.2-1b", "qwen2.5-7b", "olmoe-1b-7b"])
def test_a_preset_loads_and_generates(
    name: str, presets: dict[str, Preset], tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    made = synthesize(name, None, tmp_path / "made.gguf")
    assert made.kind == "Q4_K_M"
    assert made.size_bytes == made.path.stat().st_size
    engine = load(made.path)
    assert engine.info.gpu.total_layers == presets[name].layers + 1
    text = "The cat is in the house, and the dog is not."
    answer = engine.generate(text, max_tokens=4)
    assert answer.output_tokens == 4
    assert len(text) / 4 <= len(answer.prompt_token_ids) < len(text)
    chat = engine.chat([{"role": "user", "content": "Hello"}], max_tokens=2)
    assert chat.output_tokens == 2


def test_blocks_of_every_type_load_and_generate(
    tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    # Each layer has a different type.
    preset = small("qwen2.5-7b", layers=len(RANDOM_TYPES))
    blueprint = preset_blueprint(preset, "mixed")
    mixed = [
        tensor.of_type(RANDOM_TYPES[layer])
        if is_quantized(tensor) and (layer := layer_of(tensor.name)) is not None
        else tensor
        for tensor in blueprint.tensors
    ]
    write_blueprint(tmp_path / "mixed.gguf", replace(blueprint, tensors=mixed), ignore)
    assert set(types(tmp_path / "mixed.gguf").values()) == set(RANDOM_TYPES)
    engine = load(tmp_path / "mixed.gguf")
    answers = [engine.generate(text, max_tokens=2).token_ids for text in ("Hello", "cat", "dog")]
    assert len(set(answers)) == 3


@pytest.mark.parametrize("kind", RANDOM_TYPES)
def test_weights_are_centred_and_as_large_as_a_row_asks(kind: str) -> None:
    # The longest row of a preset has the smallest weights.
    tensor = Tensor("blk.0.ffn_down.weight", (18_944, 64), kind)
    data = np.frombuffer(b"".join(RandomWeights().content(tensor)), np.uint8).copy()
    type_ = gguf.GGMLQuantizationType[kind]
    if kind not in ("F32", "F16", "BF16"):
        data = data.reshape(-1, gguf.GGML_QUANT_SIZES[type_][1])
    weights = gguf.quants.dequantize(data, type_).reshape(64, -1)
    assert weights.shape == (64, 18_944)
    assert weights.std() == pytest.approx(18_944**-0.5, rel=0.05)
    assert abs(weights.mean()) < 0.15 * weights.std()
    assert len(np.unique(weights, axis=0)) == 64


def test_a_blocks_own_scale_is_no_denormal_number() -> None:
    places = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q8_0": (0,)}
    for kind, scales in places.items():
        tensor = Tensor("blk.0.ffn_down.weight", (18_944, 1), kind)
        _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        block = b"".join(RandomWeights().content(tensor))[:size]
        for place in scales:
            scale = abs(float(np.frombuffer(block[place : place + 2], np.float16)[0]))
            assert scale >= np.finfo(np.float16).smallest_normal, kind


#: Runs llama.cpp's quantizer for several types in one process.
_QUANTIZE = """
import ctypes, sys, llama_cpp
source, *others = sys.argv[1:]
for target, number in zip(others[::2], others[1::2]):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = int(number)
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)):
        sys.exit(target)
"""


@pytest.mark.parametrize(
    "preset",
    [
        small("qwen2.5-7b", layers=16, inner=256, heads=16, kv_heads=2),
        small("qwen2.5-7b", inner=256, kv_heads=2),
        small("smollm2-135m", width=96, heads=3, kv_heads=1, inner=160),
        small("olmoe-1b-7b", inner=64, experts=8, experts_used=2),
    ],
    ids=["grouped", "ungrouped", "tied-and-uneven", "eight-experts"],
)
def test_types_are_those_that_llama_cpp_chooses(
    preset: Preset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(synthetic, "PRESETS", {"small": preset})
    source = synthesize("small", "F32", tmp_path / "F32.gguf").path
    # For many layers, only the types whose rules depend on the layer, to save time.
    deep = preset.layers > 2
    names = [
        name for name, row in FILE_TYPES.items() if name != "F32" and (row.upgrades or not deep)
    ]
    targets = [tmp_path / f"{name}.gguf" for name in names]
    words = [str(w) for t, n in zip(targets, names, strict=True) for w in (t, FILE_TYPES[n].number)]
    subprocess.run([sys.executable, "-c", _QUANTIZE, str(source), *words], check=True)
    for name, target in zip(names, targets, strict=True):
        made = synthesize("small", name, tmp_path / "made.gguf", overwrite=True).path
        assert types(made) == types(target), name
        assert made.stat().st_size == pytest.approx(target.stat().st_size, abs=256)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_copy_has_the_shapes_types_and_tokenizer_of_the_file(
    shards: int, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    real = tiny_llama(quantization="Q8_0", layers=3, shards=shards)
    copy = synthesize(str(real), None, tmp_path / "copy.gguf").path
    parts = [gguf.GGUFReader(file) for file in sorted(real.parent.iterdir())]
    expected = {t.name: (t.shape.tolist(), t.tensor_type) for p in parts for t in p.tensors}
    reader = gguf.GGUFReader(copy)
    assert {t.name: (t.shape.tolist(), t.tensor_type) for t in reader.tensors} == expected
    for key, field in parts[0].fields.items():
        if not key.startswith(("GGUF.", "split.", "general.name")):
            assert reader.fields[key].contents() == field.contents(), key
            assert reader.fields[key].types == field.types, key
    assert load(copy).generate("Hello", max_tokens=2).output_tokens == 2


def test_a_copy_can_have_fewer_layers_and_another_type(
    model: Callable[..., Any], tmp_path: Path
) -> None:
    real = tiny_llama(layers=3)
    done = model("synth", "--like", real, "--layers", 1, "--quant", "q4_1", "--out", "one.gguf")
    assert done.status == 0
    assert done.out.startswith("Q4_1  ")
    assert done.out.endswith("  one.gguf\n")
    assert default_file_name("a/b.Q8_0.gguf", "Q4_1") == "b.Q4_1-synthetic.gguf"
    assert default_file_name("a/b.Q8_0.gguf", None) == "b.Q8_0-synthetic.gguf"
    copied = types(tmp_path / "one.gguf")
    assert copied["blk.0.ffn_down.weight"] == "Q4_1"
    assert not any(name.startswith("blk.1.") for name in copied)
    assert gguf.GGUFReader("one.gguf").fields["llama.block_count"].contents() == 1
    refused = model("synth", "--like", real, "--layers", 4, "--out", "four.gguf")
    assert refused.status == 1
    assert "it has only 3 layers; 4 were requested" in refused.err


def test_the_command_names_the_file_after_what_it_holds(
    model: Callable[..., Any], presets: dict[str, Preset], tmp_path: Path
) -> None:
    assert model("synth", "--like", "Qwen2.5-7B", "--layers", 1).status == 0
    name = "qwen2.5-7b-Q4_K_M-1-layers-synthetic.gguf"
    assert [file.name for file in tmp_path.iterdir()] == [name]
    again = model("synth", "--like", "qwen2.5-7b", "--layers", 1)
    assert again.status == 1
    assert f"{name} exists; name another file, or overwrite it: --force" in again.err
    assert model("synth", "--like", "qwen2.5-7b", "--layers", 1, "--force").status == 0


def test_wrong_arguments_are_named_with_what_is_known(model: Callable[..., Any]) -> None:
    unknown = model("synth", "--like", "qwen2.5-8b")
    assert unknown.status == 1
    assert "did you mean the preset qwen2.5-7b?" in unknown.err
    assert f"presets: {', '.join(PRESETS)}" in unknown.err
    kind = model("synth", "--like", "qwen2.5-7b", "--quant", "Q4_K_X")
    assert kind.status == 2
    assert "unknown quantization 'Q4_K_X'; known: Q2_K, " in kind.err


def test_a_damaged_file_is_no_model_to_copy(model: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copy(tiny_llama(), tmp_path / "whole.gguf")
    for size in (30, 2_000, 100_000):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes((tmp_path / "whole.gguf").read_bytes()[:size])
        refused = model("synth", "--like", "cut.gguf", "--out", "made.gguf")
        assert refused.status == 1, size
        assert "cut.gguf can't be read as a GGUF file" in refused.err
        assert "Traceback" not in refused.err
    assert not (tmp_path / "made.gguf").exists()


def test_a_type_that_cant_be_made_asks_for_another(
    model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_llmperf.models.blocks.RANDOM_TYPES", ("Q4_0",))
    refused = model("synth", "--like", tiny_llama(quantization="Q8_0"), "--out", "made.gguf")
    assert refused.status == 1
    text = "is Q8_0, which can't be filled with random weights; choose a quantization: --quant"
    assert text in refused.err


def test_a_missing_package_is_named_with_the_extra(
    model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without_gguf(name: str, *others: Any, **named: Any) -> Any:
        if name == "gguf":
            raise ModuleNotFoundError("No module named 'gguf'", name="gguf")
        return real_import(name, *others, **named)

    monkeypatch.setattr(builtins, "__import__", without_gguf)
    refused = model("synth", "--like", "qwen2.5-7b")
    assert refused.status == 1
    assert "run: pip install 'pytest-llmperf[models]'" in refused.err


def test_a_disk_without_room_is_noticed_before_writing(
    model: Callable[..., Any],
    presets: dict[str, Preset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        model_output.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0)
    )
    refused = model("synth", "--like", "qwen2.5-7b")
    assert refused.status == 1
    assert "KiB, and " in refused.err
    assert "0 B left; make room, or name another place: --out" in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ends", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_ends_the_writing_leaves_no_file(
    ends: BaseException, presets: dict[str, Preset], tmp_path: Path
) -> None:
    def stop(done: int, whole: int) -> None:
        assert 0 < done < whole
        raise ends

    with pytest.raises((KeyboardInterrupt, ModelError)) as caught:
        synthesize("qwen2.5-7b", "Q4_K_M", tmp_path / "made.gguf", progress=stop)
    assert list(tmp_path.iterdir()) == []
    if caught.type is ModelError:
        assert "the disk is full" in str(caught.value)
