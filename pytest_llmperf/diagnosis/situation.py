"""Everything a rule may look at: what was configured, loaded, found in the machine, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmperf.engine_kinds import engine_kind
from pytest_llmperf.machine.free_memory import Memory
from pytest_llmperf.machine.graphics import GraphicsCard

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.load_report import DeviceLoad, GpuUtilization
    from pytest_llmperf.machine.fitness import FitnessFinding


@dataclass(frozen=True)
class Use:
    """How much of the engine a workload uses.

    Attributes:
        prompt_tokens: of its longest prompt; 0 where the engine does not say.
        output_tokens: of its longest answer.
        context: most tokens that are in the context at once.
        own: the user's own workload (a test's, or sizes that were asked for), not one
            that was made up to have something to measure.
    """

    prompt_tokens: int
    output_tokens: int
    context: int
    own: bool = False


@dataclass(frozen=True)
class Hardware:
    """What the machine has, whatever the engine makes of it.

    Attributes:
        usable_cpus: how many this process may use.
        cpu_instructions: the CPU's decisive instruction sets.
        memory: of the system.
        cards: GPUs worth computing on, through NVML or as the kernel shows them.
        gpu_memory: total bytes of each GPU that NVML lets this process use.
        gpu_problem: what is wrong with the driver or a card, or None.
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
    """One configuration on one machine.

    Attributes:
        config: the resolved ``llm`` section.
        hardware: what the machine has.
        info: what the engine loaded; None where it could not.
        use: how much of it the workload uses.
        metrics: what was measured, by name in base units; empty before.
        findings: what fitness checks found while measuring, each name's worst once.
        load_error: why the engine could not load; empty where it did.
        model_bytes: size of the model's files; 0 where there is none.
    """

    config: Mapping[str, Any]
    hardware: Hardware
    info: EngineInfo | None
    use: Use
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[FitnessFinding] = ()
    load_error: str = ""
    model_bytes: int = 0

    @property
    def llama(self) -> EngineInfo | None:
        """What llama.cpp loaded; None for an application, of which nothing is known."""
        info = self.info
        return info if info is not None and engine_kind(info.engine).uses_llama_settings else None

    @property
    def layers(self) -> GpuUtilization | None:
        """Where llama.cpp put the layers."""
        return self.llama.gpu if self.llama is not None else None

    @property
    def gpu_devices(self) -> tuple[DeviceLoad, ...]:
        """The devices llama.cpp was shown, the host left out."""
        layers = self.layers
        return tuple(d for d in layers.devices if d.name != "CPU") if layers is not None else ()

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
        """Of the bytes that decoding reads per token at most, the share that is KV cache."""
        llama, kv = self.llama, self.kv_per_token * self.use.context
        return kv / (llama.model_bytes + kv) if llama is not None and llama.model_bytes else 0.0

    def found(self, name: str) -> FitnessFinding | None:
        """What a fitness check found, if it found anything."""
        return next((finding for finding in self.findings if finding.name == name), None)
