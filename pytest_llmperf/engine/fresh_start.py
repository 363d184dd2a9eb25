"""Starts the engine processes that are measured, once their model files lie in memory afresh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pytest_llmperf.config.gguf import SplitModelError, model_files
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.machine.file_pages import read_again
from pytest_llmperf.machine.free_memory import free_memory

#: Files that were read again by this process: path, inode, modification time.
_seen: set[tuple[str, int, int]] = set()


def start_engine(spec: LaunchSpec) -> EngineClient:
    """Start an engine process to be measured.

    A model file that it maps is read again first, once a session: so two files are compared by
    their content, and a session with those of other days, not by how the files came into memory.

    Raises:
        EngineError: it can't be started.
    """
    # A file that is missing or wrong is the engine's to report.
    with suppress(OSError, SplitModelError):
        for file in mapped_files(spec):
            found = file.stat()
            key = (str(file), found.st_ino, found.st_mtime_ns)
            # Reading what does not fit would push out the beginning.
            if key not in _seen and 2 * found.st_size <= free_memory():
                _seen.add(key)
                read_again(file)
    return EngineClient.start(spec)


def mapped_files(spec: LaunchSpec) -> Iterator[Path]:
    """Yield the model files whose weights are read where the system keeps the file's pages."""
    kind, config = spec.kind, spec.config
    if not kind.uses_llama_settings or not config.get("use_mmap") or not config.get("model_path"):
        return
    if kind.backend_name != "cpu" and config.get("n_gpu_layers") == -1:
        return
    yield from model_files(Path(config["model_path"]))
