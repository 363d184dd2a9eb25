"""Recovers the CMake flags of the installed llama-cpp-python, to build other versions with them.

Its wheel contains ``ggml-config.cmake``, in which CMake recorded every option of
the build. If it is missing, only the backend is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.packages.installed import Distribution

_SET = re.compile(r'^set\((GGML_\w+) "([^"]*)"\)$', re.MULTILINE)
#: Options that decide what is built, with their defaults. Where CMake computes a default, it
#: records it beside the option (GGML_..._DEFAULT).
_OFF = (
    *("CUDA", "HIP", "MUSA", "METAL", "SYCL", "VULKAN", "OPENCL", "CANN", "BLAS", "RPC", "WEBGPU"),
    *("OPENVINO", "HEXAGON", "ZDNN", "ZENDNN", "BACKEND_DL", "LTO", "STATIC"),
    *("CPU_ALL_VARIANTS", "CPU_KLEIDIAI", "CPU_HBM", "HIP_ROCWMMA_FATTN", "SYCL_F16"),
    *("CUDA_F16", "CUDA_FORCE_MMQ", "CUDA_FORCE_CUBLAS", "CUDA_FA_ALL_QUANTS", "CUDA_NO_VMM"),
    *("CUDA_NO_PEER_COPY", "AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"),
    *("AMX_TILE", "AMX_INT8", "AMX_BF16"),
)
_ON = ("NATIVE", "OPENMP", "LLAMAFILE", "CPU_REPACK", "CUDA_FA", "CUDA_GRAPHS")
_TEXTS = {
    **dict.fromkeys(("CPU_ARM_ARCH", "CPU_POWERPC_CPUTYPE", "SYCL_DEVICE_ARCH"), ""),
    "BLAS_VENDOR": "Generic",
    "SYCL_TARGET": "INTEL",
}
#: On for a portable build, off for one that asks the compiler for this machine's processor.
_PORTABLE = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")


def build_flags(engine: Distribution | None, environ: Mapping[str, str]) -> str:
    """Return the CMAKE_ARGS to build another version of the installed engine with.

    CMAKE_ARGS in ``environ`` takes precedence.
    """
    if given := environ.get("CMAKE_ARGS", "").strip():
        return given
    if engine is None:
        return ""
    for file in engine.raw.files or ():
        path = Path(str(engine.raw.locate_file(file)))
        if path.name == "ggml-config.cmake" and path.is_file():
            return " ".join(flags_of(path.read_text(errors="replace")))
    backend = installed_backend()
    return "" if backend == "cpu" else f"-DGGML_{backend.upper()}=ON"


def flags_of(config: str) -> list[str]:
    """Return the flags in a ggml-config.cmake's text that differ from the defaults."""
    values = dict(_SET.findall(config))
    native = _on(values.get("GGML_NATIVE", "ON"))
    defaults = {**dict.fromkeys(_OFF, "OFF"), **dict.fromkeys(_ON, "ON"), **_TEXTS}
    defaults |= dict.fromkeys(_PORTABLE, "OFF" if native else "ON")
    flags = []
    for name, usual in defaults.items():
        value = values.get(f"GGML_{name}")
        default = values.get(f"GGML_{name}_DEFAULT", usual) if name != "NATIVE" else usual
        # Flags that do not apply to the processor are not in the file.
        if value is None or value == default or (_is_switch(value) and _on(value) == _on(default)):
            continue
        flags.append(f"-DGGML_{name}={value}")
    return sorted(flags)


def _is_switch(value: str) -> bool:
    return value.upper() in ("ON", "OFF", "TRUE", "FALSE", "1", "0", "YES", "NO")


def _on(value: str) -> bool:
    return value.upper() in ("ON", "TRUE", "1", "YES")
