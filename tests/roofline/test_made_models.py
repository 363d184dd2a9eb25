"""The model of any size that benchmarks can make: llama.cpp loads it, and reads what was asked."""

from __future__ import annotations

import sys
from pathlib import Path

from gguf_files import Load

from pytest_llmperf.engine.request import Request

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from large_model import size_of, tensors, write


def test_a_made_model_generates_and_weighs_what_its_shape_says(tmp_path: Path, load: Load) -> None:
    file = tmp_path / "made.gguf"
    write(file, layers=2, width=512, inner=64)
    client = load(file)
    generation = client.request(Request(prompt="Hello", max_tokens=3))
    words = 49_152
    expected = sum(size_of(shape, kind) for _, shape, kind in tensors(2, 512, 64, 128, words))
    assert client.info.gpu is not None
    assert client.info.gpu.total_layers == 3
    assert client.info.model_bytes == expected
    assert generation.output_tokens == 3
