"""The machine and the environment of a search, as known before anything is measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from pytest_llmperf import __version__

#: Beginnings of variables that engines and their libraries take settings from.
_ENGINES = ("GGML_", "LLAMA_", "OMP_", "GOMP_", "KMP_", "CUDA_", "HIP_", "ROCR_")


def host_label() -> str:
    """Name this machine by what is known without an engine: processor, usable cores, GPUs."""
    from pytest_llmperf.machine.fingerprint import read_machine
    from pytest_llmperf.machine.gpu.devices import read_gpus

    processor = read_machine("cpu").key.removesuffix("_cpu")
    return ", ".join([processor, *(gpu.name for gpu in read_gpus().gpus)])


def circumstances(area: Path, environ: Mapping[str, str]) -> list[object]:
    """Return what decides a search's measurements, beside the commits.

    Plugin, interpreter, installed packages (the engine among them) and the
    variables that configure plugin and engines. What is installed from ``area``,
    the work tree, in editable form does not count: each commit brings its own.
    """
    from pytest_llmperf.packages.identity import installed_digest

    variables = {
        name: value
        for name, value in sorted(environ.items())
        # LLMPERF_<SECTION>__<KEY>; the others say where things lie.
        if name.startswith(_ENGINES) or (name.upper().startswith("LLMPERF_") and "__" in name)
    }
    return [__version__, platform.python_version(), installed_digest(area), variables]
