from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.engine.installed import installed_backend

CPU = ("libggml-base.so", "libggml-cpu.so", "libllama.so")


@pytest.mark.parametrize(
    ("libraries", "backend"),
    [
        (CPU, "cpu"),
        ((*CPU, "libggml-rpc.so"), "cpu"),
        ((*CPU, "libggml-cuda.so"), "cuda"),
        ((*CPU, "libggml-vulkan.so.0"), "vulkan"),
        (("libggml-metal.dylib", "libggml-blas.dylib"), "metal"),
        (("ggml-cuda.dll", "ggml-vulkan.dll"), "cuda"),
    ],
)
def test_a_build_is_known_by_its_libraries(
    libraries: tuple[str, ...], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in libraries:
        (tmp_path / name).touch()
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))

    assert installed_backend() == backend
