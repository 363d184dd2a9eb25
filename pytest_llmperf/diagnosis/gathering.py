"""Machine facts for the rules, gathered once, besides the engine's report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.config.gguf import SplitModelError, model_files
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.diagnosis.situation import Hardware
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.machine.cpu import read_cpu
from pytest_llmperf.machine.free_memory import read_memory
from pytest_llmperf.machine.gpu.devices import GpuReading, read_gpus
from pytest_llmperf.machine.graphics import GraphicsCard, graphics_cards, hidden_by


def look_at_hardware(environ: Mapping[str, str] | None = None) -> Hardware:
    """Read CPUs, memory and GPUs."""
    environ = os.environ if environ is None else environ
    reading = read_gpus(environ)
    return Hardware(
        usable_cpus=usable_cpus(),
        cpu_instructions=read_cpu().instructions,
        memory=read_memory(),
        cards=_cards(reading),
        gpu_memory=tuple(gpu.memory_bytes for gpu in reading.gpus if gpu.memory_bytes),
        gpu_problem=reading.problem,
        gpus_hidden_by=hidden_by(environ, installed_backend()),
    )


def _cards(reading: GpuReading) -> tuple[GraphicsCard, ...]:
    """Return the cards that NVML names, else those that the kernel shows."""
    named = tuple(GraphicsCard("nvidia", gpu.name, "NVML") for gpu in reading.gpus)
    shown = graphics_cards()
    return (*named, *(card for card in shown if card.vendor != "nvidia" or not named))


def model_size(config: Mapping[str, Any]) -> int:
    """Return the bytes of the model's files; 0 without files."""
    try:
        files = model_files(Path(str(config.get("model_path", ""))))
        return sum(file.stat().st_size for file in files)
    except (OSError, SplitModelError):
        return 0
