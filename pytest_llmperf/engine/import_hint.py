"""Fixes for an engine whose libraries could not be loaded, derived from the loader's message."""

from __future__ import annotations

import re

from pytest_llmperf.gpu_builds import rebuild_command

_MISSING = re.compile(r"\b(lib[\w+-]+)\.so(?:\.(\d+))?[\d.]*: cannot open shared object file")
#: The driver's own functions; those of CUDA's libraries begin otherwise (cudaMalloc, cublasCreate).
_DRIVER_SYMBOL = re.compile(r"undefined symbol: (cu[A-Z]\w*)")
_NEWER_SYSTEM = re.compile(r"version `((?:GLIBC|GLIBCXX|CXXABI)_[\w.]+)' not found")
_DRIVER = (
    "install the NVIDIA driver, or start the container with its GPUs (docker run --gpus all); "
    "without a GPU, install a CPU build of llama-cpp-python"
)
_CUDA = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)$")
_ROCM = re.compile(r"lib(?:amdhip64|hipblas|hipblaslt|rocblas|hsa-runtime64)$")
#: Libraries from separate packages: a description of each, and Debian's package.
_PACKAGES = {
    "libvulkan": ("the Vulkan loader", "libvulkan1"),
    "libgomp": ("the OpenMP runtime", "libgomp1"),
    "libnccl": ("NVIDIA's NCCL", "libnccl2"),
}


def import_hint(message: str) -> str:
    """Return how to fix a library that could not be loaded; empty if unknown.

    Args:
        message: the loader's message, as in the import error.
    """
    if missing := _MISSING.search(message):
        return _library_hint(missing[1], missing[2] or "")
    if symbol := _DRIVER_SYMBOL.search(message):
        return (
            f"{symbol[1]} is the NVIDIA driver's, and its library (libcuda.so.1) is not there or "
            f"older than this build: {_DRIVER}"
        )
    if newer := _NEWER_SYSTEM.search(message):
        command = rebuild_command("<the flags of your build>")
        return (
            f"the library that was loaded here has no {newer[1]}: the engine was compiled on a "
            f"newer system, or an older library comes first on the loader's path. To compile it "
            f"here: {command}"
        )
    return ""


def _library_hint(library: str, version: str) -> str:
    if library == "libcuda":
        return f"libcuda.so.1 is the NVIDIA driver's own library: {_DRIVER}"
    if _CUDA.match(library):
        cuda = f"CUDA {version}" if version else "CUDA"
        return (
            f"this build needs the libraries of {cuda}: install its runtime, or name the folder "
            "that holds them in LD_LIBRARY_PATH before Python starts"
        )
    if _ROCM.match(library):
        return (
            "this build needs the libraries of ROCm: install it, or name the folder that holds "
            "them in LD_LIBRARY_PATH before Python starts"
        )
    if library in _PACKAGES:
        what, package = _PACKAGES[library]
        return f"install {what} (Debian: {package})"
    return ""
