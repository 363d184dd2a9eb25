"""Reads a mapped model file into memory again before the engine is measured."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from pytest_llmperf.config.gguf import SplitModelError, model_files
from pytest_llmperf.config.model_files import uses_mmap
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.machine.file_pages import read_again
from pytest_llmperf.machine.free_memory import free_memory

#: Seconds for which a model counts as freshly read; later the system may have moved its pages.
_FRESH_SECONDS = 3600.0
#: When this process last read each model, by its files' paths, sizes, inodes and times.
_read: dict[tuple[tuple[str, int, int, int], ...], float] = {}


def start_engine(spec: LaunchSpec) -> EngineClient:
    """Read the model again, then start an engine process to be measured.

    Raises:
        EngineError: the process can't be started.
    """
    read_model_again(spec)
    return EngineClient.start(spec)


def read_model_again(spec: LaunchSpec) -> None:
    """Read the model file that an engine will map into memory, at most once an hour.

    Otherwise comparisons of models, and of sessions on different days, would depend on how the
    files came into memory. Models of more than half of the free memory are not read, because
    their end would push their beginning out of memory.
    """
    kind, config = spec.kind, spec.config
    if not kind.uses_llama_settings or not uses_mmap(config):
        return
    if kind.backend_name != "cpu" and config["n_gpu_layers"] == -1:
        return
    # The engine reports a missing or broken file.
    with suppress(OSError, SplitModelError):
        files = model_files(Path(config["model_path"]))
        stats = [file.stat() for file in files]
        model = tuple(
            (str(file), stat.st_size, stat.st_ino, stat.st_mtime_ns)
            for file, stat in zip(files, stats, strict=True)
        )
        if time.monotonic() < _read.get(model, -_FRESH_SECONDS) + _FRESH_SECONDS:
            return
        if 2 * sum(stat.st_size for stat in stats) <= free_memory():
            read_again(files)
            # Noted even if reading was given up as too slow: every process would wait as long.
            _read[model] = time.monotonic()
