"""The input of diagnosis rules: configuration, loaded engine, machine, measurements."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.gguf import SplitModelError, model_files
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.engine_kinds import engine_kind
from pytest_llmperf.machine.cpu import read_cpu
from pytest_llmperf.machine.free_memory import Memory, read_memory
from pytest_llmperf.machine.gpu.devices import GpuReading, read_gpus
from pytest_llmperf.machine.graphics import GraphicsCard, graphics_cards, hidden_by

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.load_report import DeviceLoad, GpuUtilization
    from pytest_llmperf.machine.fitness import FitnessFinding
    from pytest_llmperf.measure.load_metrics import LoadFigures
    from pytest_llmperf.measure.server_use import ServerUse


@dataclass(frozen=True)
class WorkloadSize:
    """Size of a workload in tokens.

    Attributes:
        prompt_tokens: tokens of its longest prompt; 0 if unknown.
        output_tokens: tokens of its longest answer.
        context: maximum number of tokens in the context at once.
        is_users: the workload is the user's (a test's, or of requested sizes), not the
            default one.
    """

    prompt_tokens: int
    output_tokens: int
    context: int
    is_users: bool = False


@dataclass(frozen=True)
class Hardware:
    """CPUs, memory and GPUs of the machine, used by the engine or not.

    Attributes:
        usable_cpus: number of CPUs that this process may use.
        cpu_instructions: the CPU's instruction sets that matter for speed.
        memory: the system's memory.
        cards: GPUs fit for computing, from NVML or the kernel.
        gpu_memory: total bytes of each GPU that NVML lets this process use.
        gpu_problem: a problem of the driver or a card, or None.
        gpus_hidden_by: the environment variable that hides every GPU, or None.
    """

    usable_cpus: int
    cpu_instructions: tuple[str, ...]
    memory: Memory
    cards: tuple[GraphicsCard, ...] = ()
    gpu_memory: tuple[int, ...] = ()
    gpu_problem: str | None = None
    gpus_hidden_by: str | None = None


@dataclass(frozen=True)
class Situation:
    """One configuration on one machine, with everything known about it.

    Attributes:
        config: the resolved ``llm`` section.
        hardware: the machine's hardware.
        info: the engine's load report; None if it could not load.
        workload_size: size of the workload.
        metrics: measured values by name, in base units; empty before measuring.
        findings: fitness findings while measuring, the worst of each name.
        load_error: why the engine could not load; empty if it did.
        model_bytes: size of the model's files; 0 without files.
        loads: figures of each load sent to a server; empty otherwise.
        uses: per sample, the requests to servers and the servers' counters; empty without servers.
        base_uses: the same for the base side of a comparison, if there is one.
    """

    config: Mapping[str, Any]
    hardware: Hardware
    info: EngineInfo | None
    workload_size: WorkloadSize
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[FitnessFinding] = ()
    load_error: str = ""
    model_bytes: int = 0
    loads: Sequence[LoadFigures] = ()
    uses: Sequence[ServerUse] = ()
    base_uses: Sequence[ServerUse] = ()

    @property
    def llama(self) -> EngineInfo | None:
        """llama.cpp's load report; None for an application."""
        info = self.info
        return info if info is not None and engine_kind(info.engine).uses_llama_settings else None

    @property
    def layers(self) -> GpuUtilization | None:
        """Placement of the layers, as llama.cpp reports it."""
        return self.llama.gpu if self.llama is not None else None

    @property
    def gpu_devices(self) -> tuple[DeviceLoad, ...]:
        """The devices that llama.cpp sees, without the host."""
        layers = self.layers
        return layers.gpus if layers is not None else ()

    @property
    def cpu_share(self) -> float:
        """Share of the layers that the CPU computes."""
        layers = self.layers
        if layers is None or not layers.total_layers:
            return 1.0
        return 1.0 - layers.layers_on_gpu / layers.total_layers

    @property
    def kv_bytes(self) -> int:
        """Size of the whole KV cache, over all devices."""
        layers = self.layers
        return sum(device.kv_bytes for device in layers.devices) if layers is not None else 0

    @property
    def kv_per_token(self) -> float:
        """Bytes of KV cache that one token of context takes; 0 where unknown."""
        llama = self.llama
        return self.kv_bytes / llama.n_ctx if llama is not None and llama.n_ctx else 0.0

    @property
    def kv_read_share(self) -> float:
        """Largest share of the KV cache in the bytes that decoding reads per token."""
        llama, kv = self.llama, self.kv_per_token * self.workload_size.context
        return kv / (llama.model_bytes + kv) if llama is not None and llama.model_bytes else 0.0

    def fitness_finding(self, name: str) -> FitnessFinding | None:
        """Return the finding of a fitness check, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)


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
