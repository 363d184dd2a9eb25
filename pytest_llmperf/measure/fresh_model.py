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

#: Seconds for which a model counts as read: meanwhile the system may have moved its pages.
_FRESH_SECONDS = 3600.0
#: When models were last read again by this process, by their files' paths, sizes, inodes and times.
_read: dict[tuple[tuple[str, int, int, int], ...], float] = {}


def start_engine(spec: LaunchSpec) -> EngineClient:
    """Start an engine process to be measured; its model is read again first.

    Raises:
        EngineError: it can't be started.
    """
    read_model_again(spec)
    return EngineClient.start(spec)


def read_model_again(spec: LaunchSpec) -> None:
    """Read the model file that an engine will map into memory again, once an hour.

    So models are compared by their content, and sessions with those of other days, not by how
    their files came into memory. Not read: what takes more than half of the free memory, because
    its end would push out its beginning.
    """
    kind, config = spec.kind, spec.config
    if not kind.uses_llama_settings or not uses_mmap(config):
        return
    if kind.backend_name != "cpu" and config["n_gpu_layers"] == -1:
        return
    # A file that is missing or wrong is the engine's to report.
    with suppress(OSError, SplitModelError):
        files = model_files(Path(config["model_path"]))
        found = [file.stat() for file in files]
        model = tuple(
            (str(file), one.st_size, one.st_ino, one.st_mtime_ns)
            for file, one in zip(files, found, strict=True)
        )
        if time.monotonic() < _read.get(model, -_FRESH_SECONDS) + _FRESH_SECONDS:
            return
        if 2 * sum(one.st_size for one in found) <= free_memory():
            read_again(files)
            # What took too long to be read whole would take as long at every process.
            _read[model] = time.monotonic()
