"""With which CMake flags the installed llama-cpp-python was built, so that another version can be.

Its wheel holds ``ggml-config.cmake``, in which CMake wrote down every option of
the build. Where a build lacks it, the flags are derived from its libraries and
from what it says of the processor.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.packages.installed import Distribution

_SET = re.compile(r'^set\((GGML_\w+) "([^"]*)"\)$', re.MULTILINE)
#: Options that decide what is built, with the value they have when nobody sets them. Where
#: CMake works a default out, it writes that down beside the option (GGML_..._DEFAULT).
_DEFAULTS = {
    **dict.fromkeys(
        (
            *("CUDA", "HIP", "MUSA", "METAL", "SYCL", "VULKAN", "OPENCL", "CANN", "BLAS", "RPC"),
            *("WEBGPU", "OPENVINO", "HEXAGON", "ZDNN", "ZENDNN", "BACKEND_DL"),
            *("CPU_ALL_VARIANTS", "CPU_KLEIDIAI", "CPU_HBM", "LTO", "STATIC"),
            *(
                "CUDA_F16",
                "CUDA_FORCE_MMQ",
                "CUDA_FORCE_CUBLAS",
                "CUDA_FA_ALL_QUANTS",
                "CUDA_NO_VMM",
            ),
            *("CUDA_NO_PEER_COPY", "HIP_ROCWMMA_FATTN", "SYCL_F16"),
        ),
        "OFF",
    ),
    **dict.fromkeys(
        ("NATIVE", "OPENMP", "LLAMAFILE", "CPU_REPACK", "CUDA_FA", "CUDA_GRAPHS"), "ON"
    ),
    **dict.fromkeys(("CPU_ARM_ARCH", "CPU_POWERPC_CPUTYPE", "SYCL_DEVICE_ARCH"), ""),
    "BLAS_VENDOR": "Generic",
    "SYCL_TARGET": "INTEL",
}
#: On for a portable build, off for one that asks the compiler for this machine's processor.
_PORTABLE = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")
#: Never on unless asked for.
_BEYOND = ("AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16")
_AMX = ("AMX_TILE", "AMX_INT8", "AMX_BF16")
#: What llama.cpp calls a feature -> what the kernel calls it, for those only a native build uses.
_FEATURES = {
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AVX_VNNI": "avx_vnni",
    "AMX_INT8": "amx_int8",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}
_TIMEOUT_S = 60.0


def build_flags(engine: Distribution | None, environ: Mapping[str, str]) -> str:
    """Return the CMAKE_ARGS that another version of the engine is to be built with.

    Args:
        engine: the installed llama-cpp-python; None if there is none.
        environ: its CMAKE_ARGS win, if set.
    """
    if given := environ.get("CMAKE_ARGS", "").strip():
        return given
    if engine is None:
        return ""
    written = _written_down(engine)
    if written is not None:
        return " ".join(flags_of(written))
    return " ".join(_derived())


def _written_down(engine: Distribution) -> str | None:
    for file in engine.raw.files or ():
        if file.name == "ggml-config.cmake":
            try:
                return Path(str(engine.raw.locate_file(file))).read_text(errors="replace")
            except OSError:
                return None
    return None


def flags_of(config: str) -> list[str]:
    """Return the flags that differ from the defaults, of the text of a ggml-config.cmake."""
    values = dict(_SET.findall(config))
    native = _on(values.get("GGML_NATIVE", "ON"))
    defaults = dict(_DEFAULTS)
    defaults |= dict.fromkeys(_PORTABLE, "OFF" if native else "ON")
    defaults |= dict.fromkeys((*_BEYOND, *_AMX), "OFF")
    flags = []
    for name, usual in defaults.items():
        value = values.get(f"GGML_{name}")
        default = values.get(f"GGML_{name}_DEFAULT", usual) if name != "NATIVE" else usual
        # A flag that a processor of another kind has no use for is not in the file.
        if value is None or value == default or (_is_switch(value) and _on(value) == _on(default)):
            continue
        flags.append(f"-DGGML_{name}={value}")
    return sorted(flags)


def _is_switch(value: str) -> bool:
    return value.upper() in ("ON", "OFF", "TRUE", "FALSE", "1", "0", "YES", "NO")


def _on(value: str) -> bool:
    return value.upper() in ("ON", "TRUE", "1", "YES")


def _derived() -> list[str]:
    backend = installed_backend()
    flags = [] if backend == "cpu" else [f"-DGGML_{backend.upper()}=ON"]
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    if is_portable(_system_info(), cpuinfo):
        flags.append("-DGGML_NATIVE=OFF")
    return sorted(flags)


def is_portable(system_info: str, cpuinfo: str) -> bool:
    """Say whether a library leaves unused what this machine's processor has.

    Args:
        system_info: as of ``llama_print_system_info()``; empty if it could not be asked.
        cpuinfo: the text of /proc/cpuinfo.
    """
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    has = set(flags[1].split()) if flags else set()
    uses = {match[1] for match in re.finditer(r"(\w+) = 1\b", system_info)}
    offered = {name for name, flag in _FEATURES.items() if flag in has}
    return bool(system_info and offered) and not offered & uses


def _system_info() -> str:
    """Ask the installed library in a process of its own: it may bring a GPU's driver along."""
    code = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=os.path.dirname(sys.executable),  # noqa: PTH120
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
