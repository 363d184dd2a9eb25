"""``llmperf model quantize``: llama.cpp's own quantizer, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import psutil
import pytest
from tiny_models import tiny_llama

from pytest_llmperf.models import model_output
from pytest_llmperf.models.quantize import file_name


@pytest.fixture(scope="module")
def real() -> Path:
    """A model of 32-bit floats, with rows as long as a block."""
    return tiny_llama(width=256)


def test_each_type_becomes_a_file_that_loads(
    real: Path, model: Callable[..., Any], tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    done = model("quantize", real, "--to", "q4_k_m,Q5_K_M, Q6_K,Q8_0,Q8_0", "--out", "made")
    assert done.status == 0
    lines = [line.split("  ") for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]
    assert all(line[1].endswith("iB") and line[2].endswith("s") for line in lines)
    assert lines[0][3] == f"made{os.sep}tiny-llama-Q4_K_M.gguf"
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == sorted(
        Path(line[3]).name for line in lines
    )
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(lines[0][3]).tensors}
    assert kinds == {"F32", "Q4_K", "Q6_K"}
    assert load(tmp_path / lines[0][3]).generate("Hello", max_tokens=2).output_tokens == 2


def test_an_existing_file_is_overwritten_only_if_asked(
    real: Path, model: Callable[..., Any], tmp_path: Path
) -> None:
    existing = tmp_path / "tiny-llama-Q8_0.gguf"
    existing.write_text("mine")
    refused = model("quantize", real, "--to", "Q4_0,Q8_0")
    assert refused.status == 1
    assert "tiny-llama-Q8_0.gguf exists; name another file, or overwrite it: --force" in refused.err
    # Noticed before anything was made.
    assert list(tmp_path.iterdir()) == [existing]
    assert model("quantize", real, "--to", "Q8_0", "--force").status == 0
    assert existing.read_bytes()[:4] == b"GGUF"


def test_a_quantized_model_is_quantized_again_only_if_asked(
    model: Callable[..., Any], tmp_path: Path
) -> None:
    source = tmp_path / "tiny.Q8_0.gguf"
    shutil.copy(tiny_llama(quantization="Q8_0"), source)
    refused = model("quantize", source, "--to", "Q4_0")
    assert refused.status == 1
    assert "it is quantized already (Q8_0)" in refused.err
    assert "--allow-requantize" in refused.err
    done = model("quantize", source, "--to", "Q4_0", "--allow-requantize")
    assert done.status == 0
    assert "loses more than it should" in done.err
    assert (tmp_path / "tiny.Q4_0.gguf").exists()
    itself = model("quantize", source, "--to", "Q8_0", "--allow-requantize", "--force")
    assert itself.status == 1
    assert "is the model itself; name a folder: --out" in itself.err


def test_unknown_types_are_named_with_the_known_ones(real: Path, model: Callable[..., Any]) -> None:
    refused = model("quantize", real, "--to", "Q4_K_M,Q4")
    assert refused.status == 2
    assert "unknown quantization 'Q4'; known: Q2_K, " in refused.err


def test_a_split_model_needs_all_its_parts(model: Callable[..., Any], tmp_path: Path) -> None:
    for part in sorted(tiny_llama(shards=2).parent.iterdir()):
        shutil.copy(part, tmp_path)
    first, second = sorted(tmp_path.iterdir())
    assert model("quantize", first, "--to", "Q8_0").status == 0
    assert (tmp_path / "tiny-llama-Q8_0.gguf").exists()
    second.unlink()
    refused = model("quantize", first, "--to", "Q4_0")
    assert refused.status == 1
    assert f"the model is in 2 files, of which {second.name} is missing" in refused.err
    nothing = model("quantize", "missing.gguf", "--to", "Q4_0")
    assert nothing.status == 1
    assert "no such file: " in nothing.err


def test_a_failing_quantizer_leaves_no_file_and_is_quoted(
    real: Path, model: Callable[..., Any], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(real.read_bytes()[:100_000])
    failed = model("quantize", cut, "--to", "Q8_0")
    assert failed.status == 1
    text = "llama.cpp's quantizer failed (exit status 1) while making Q8_0; its output:"
    assert text in failed.err
    assert "data is not within the file bounds" in failed.err
    assert list(tmp_path.iterdir()) == [cut]


def test_a_disk_without_room_is_noticed_first(
    real: Path, model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        model_output.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0)
    )
    refused = model("quantize", real, "--to", "Q8_0")
    assert refused.status == 1
    assert "0 B left; make room, or name another place: --out" in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_command_leaves_no_file_and_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pytest_llmperf.cli", "model", "quantize", "smollm2-135m"]
    command += ["--to", "Q4_K_M", "--allow-requantize", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    assert [file.suffix for file in tmp_path.iterdir()] == [".tmp"]
    children = psutil.Process(process.pid).children()
    process.send_signal(number)
    assert process.wait(60) == (143 if number == signal.SIGTERM else 130)
    assert list(tmp_path.iterdir()) == []
    assert len(children) == 1
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q6_K.gguf"),
        ("Qwen2.5-7B-f16.gguf", "Qwen2.5-7B-Q6_K.gguf"),
        ("model-bf16-00001-of-00003.gguf", "model-Q6_K.gguf"),
        ("model-Q4_K_M.gguf", "model-Q6_K.gguf"),
        ("qwen2.5-7b.gguf", "qwen2.5-7b-Q6_K.gguf"),
    ],
)
def test_a_file_is_named_after_its_source_and_type(source: str, expected: str) -> None:
    assert file_name(Path(source), "Q6_K") == expected
