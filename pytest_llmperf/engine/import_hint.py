"""What mends an engine whose libraries could not be loaded, read from the loader's own words."""

from __future__ import annotations

import re

_MISSING = re.compile(r"\b(lib[\w+-]+)\.so(?:\.(\d+))?[\d.]*: cannot open shared object file")
#: The driver's own functions; those of CUDA's libraries begin otherwise (cudaMalloc, cublasCreate).
_DRIVER_SYMBOL = re.compile(r"undefined symbol: (cu[A-Z]\w*)")
_NEWER_SYSTEM = re.compile(r"version `((?:GLIBC|GLIBCXX|CXXABI)_[\w.]+)' not found")
_DRIVER = (
    "install the NVIDIA driver, or start the container with its GPUs (docker run --gpus all); "
    "without a GPU, install a CPU build of llama-cpp-python"
)
_CUDA = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nccl|nvJitLink)$")
_ROCM = re.compile(r"lib(?:amdhip64|hipblas|hipblaslt|rocblas|hsa-runtime64)$")
#: Libraries that a package of their own brings.
_PACKAGES = {"libvulkan": "the Vulkan loader", "libgomp": "the OpenMP runtime"}
_DEBIAN = {"libvulkan": "libvulkan1", "libgomp": "libgomp1"}


def import_hint(message: str) -> str:
    """Say what to do about a library that could not be loaded; empty where that is not known.

    Args:
        message: the loader's, as the import's error repeats it.
    """
    if missing := _MISSING.search(message):
        return _of_missing(missing[1], missing[2] or "")
    if symbol := _DRIVER_SYMBOL.search(message):
        return (
            f"{symbol[1]} is the NVIDIA driver's, and its library (libcuda.so.1) is not there or "
            f"older than this build: {_DRIVER}"
        )
    if newer := _NEWER_SYSTEM.search(message):
        return (
            f"{newer[1]} is not on this system, so the engine was compiled on a newer one: "
            "compile it here (pip install --force-reinstall --no-cache-dir --no-binary "
            "llama-cpp-python llama-cpp-python, with the CMAKE_ARGS of your build)"
        )
    return ""


def _of_missing(library: str, version: str) -> str:
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
        return f"install {_PACKAGES[library]} (Debian: {_DEBIAN[library]})"
    return ""
