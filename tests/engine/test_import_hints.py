"""Hints about an engine's libraries that the system's loader refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineLoadError
from pytest_llmperf.engine.import_hint import import_hint

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the words are those of the loader of Linux"
)
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compile a shared library of this name and source, with further arguments."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")

    def make(name: str, source: str, *arguments: str | Path) -> Path:
        code, target = tmp_path / "code.c", tmp_path / name
        code.write_text(source)
        named = ("-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", target)
        subprocess.run([compiler, *named, code, *arguments], check=True)
        return target

    return make


@pytest.fixture
def failure(tmp_path: Path) -> Callable[[Path], str]:
    """Start an engine whose package loads this library, and return the error message."""

    def fail(library: Path) -> str:
        package = tmp_path / "site" / "llama_cpp"
        package.mkdir(parents=True)
        package.joinpath("__init__.py").write_text(
            f"import ctypes\nctypes.CDLL({str(library)!r})\n"
        )
        spec = LaunchSpec("llama_cpp", {"model_path": "x"}, env={"PYTHONPATH": str(package.parent)})
        with pytest.raises(EngineLoadError) as caught:
            EngineClient.start(spec)
        return str(caught.value)

    return fail


# No system has such versions.
@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("libcuda.so.99", "libcuda.so.1 is the NVIDIA driver's own library: install the NVIDIA"),
        ("libcublas.so.99", "this build needs the libraries of CUDA 99: install its runtime, or"),
        ("libcudart.so.99", "this build needs the libraries of CUDA 99: install its runtime, or"),
        ("libamdhip64.so.99", "this build needs the libraries of ROCm: install it, or name"),
        ("libvulkan.so.99", "install the Vulkan loader (Debian: libvulkan1)"),
        ("libgomp.so.99", "install the OpenMP runtime (Debian: libgomp1)"),
        ("libnccl.so.99", "install NVIDIA's NCCL (Debian: libnccl2)"),
    ],
)
def test_a_library_that_is_not_found_is_told_with_what_brings_it(
    build: Build, failure: Callable[[Path], str], missing: str, hint: str
) -> None:
    needed = build(missing, "int needed(void) { return 1; }")
    library = build("libggml.so", "int needed(void); int use(void) { return needed(); }", needed)
    needed.unlink()
    text = failure(library)
    assert f"{missing}: cannot open shared object file" in text
    assert f"\nhint: {hint}" in text


def test_a_function_that_the_driver_lacks_is_told_as_the_drivers(
    build: Build, failure: Callable[[Path], str]
) -> None:
    source = "int cuMemCreate(void); int use(void) { return cuMemCreate(); }"
    text = failure(build("libggml-cuda.so", source, "-Wl,-z,now"))
    assert "undefined symbol: cuMemCreate" in text
    assert "\nhint: cuMemCreate is the NVIDIA driver's, and its library (libcuda.so.1)" in text


def test_a_build_of_a_newer_system_is_told_as_one(
    build: Build, failure: Callable[[Path], str], tmp_path: Path
) -> None:
    script = tmp_path / "versions"
    script.write_text("GLIBCXX_9.9.9 { global: needed; };\n")
    newer = build("libnewer.so", "int needed(void) { return 1; }", f"-Wl,--version-script={script}")
    library = build(
        *("libggml.so", "int needed(void); int use(void) { return needed(); }", newer),
        f"-Wl,-rpath,{tmp_path}",
    )
    script.write_text("GLIBCXX_1.0 { global: needed; };\n")
    build("libnewer.so", "int needed(void) { return 1; }", f"-Wl,--version-script={script}")
    text = failure(library)
    assert "version `GLIBCXX_9.9.9' not found" in text
    assert "\nhint: the library that was loaded here has no GLIBCXX_9.9.9: the engine was" in text
    assert text.endswith("--no-deps --no-binary llama-cpp-python llama-cpp-python")


@pytest.mark.parametrize(
    "words",
    [
        "No module named 'llama_cpp'",
        "libmine.so.3: cannot open shared object file: No such file or directory",
        "undefined symbol: cublasCreate_v2",
        "undefined symbol: llama_memory_clear",
    ],
)
def test_nothing_is_said_of_what_is_not_known(words: str) -> None:
    assert import_hint(words) == ""
