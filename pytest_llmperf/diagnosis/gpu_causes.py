"""Causes that keep layers off the GPU: a build, a driver, a setting or memory."""

from __future__ import annotations

from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.diagnosis.load_failure import is_context_alone, memory_failure
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.diagnosis.sizes import bytes_text, fitting_layers, gpu_need
from pytest_llmperf.engine.load_report import GpuStatus
from pytest_llmperf.gpu_builds import rebuild_command

#: How many times longer a layer takes on a CPU than on a GPU: about the ratio of their memory
#: bandwidths (dual-channel DDR5 80 GB/s, a desktop card 700 to 1000 GB/s).
LAYER_ON_CPU = 10.0

_FLAGS = {"nvidia": "-DGGML_CUDA=on", "amd": "-DGGML_VULKAN=on"}


def rebuild(flags: str, version: str, hint: str = "") -> Remedy:
    """Build the remedy that recompiles the same llama-cpp-python with these flags."""
    return Remedy(rebuild_command(flags, version), hint=hint, is_command=True)


def _slower(cpu_share: float) -> float:
    return 1.0 + (LAYER_ON_CPU - 1.0) * cpu_share


def _cpu_only_build(situation: Situation) -> CauseEvidence | None:
    llama, hardware = situation.llama, situation.hardware
    if llama is None or llama.supports_gpu or situation.cpu_share < 1.0 or not hardware.cards:
        return None
    if hardware.gpus_hidden_by is not None:
        return None  # hiding the GPU is a deliberate choice of the CPU
    card = hardware.cards[0]
    asked = situation.config.get("n_gpu_layers", -1)
    also = "" if asked != 0 else "; then n_gpu_layers: -1 (it is 0)"
    needs = "the CUDA toolkit (nvcc)" if card.vendor == "nvidia" else "the Vulkan headers and glslc"
    text = (
        f"llama-cpp-python {llama.engine_version} was compiled without GPU code, so all "
        f"{_total(situation)} layers run on the CPU, beside the {card.name} ({card.seen})"
    )
    hint = f"compiling needs {needs}{also}"
    remedy = rebuild(_FLAGS[card.vendor], llama.engine_version, hint)
    return CauseEvidence(text, remedy, _slower(1.0))


def _no_gpu_visible(situation: Situation) -> CauseEvidence | None:
    llama, layers, hardware = situation.llama, situation.layers, situation.hardware
    if llama is None or layers is None or layers.status is not GpuStatus.NO_DEVICE:
        return None
    if layers.asked == 0 and not hardware.cards:
        return None
    text = (
        f"this build of llama-cpp-python {llama.engine_version} has GPU code, but its driver "
        f"shows it no GPU, so all {_total(situation)} layers run on the CPU"
    )
    hidden = hardware.gpus_hidden_by
    if hidden is not None:
        text += f"; {hidden} hides every GPU"
        remedy = Remedy(f"unset {hidden}")
    elif hardware.gpu_problem:
        text += f"; {hardware.gpu_problem.partition(';')[0].rstrip('.')}"
        _, _, advice = hardware.gpu_problem.partition("; ")
        remedy = Remedy(advice or "repair the driver: nvidia-smi must list the card")
    elif hardware.cards:
        card = hardware.cards[0]
        text += f", while the machine has the {card.name} ({card.seen})"
        remedy = Remedy(
            "give this process the GPU (docker run --gpus all, or the driver's user-space "
            "library): nvidia-smi must list the card"
            if card.vendor == "nvidia"
            else "install the card's driver: vulkaninfo --summary must list it"
        )
    else:
        text += ", and the machine shows none either"
        remedy = Remedy(
            "give this process a GPU and its driver: nvidia-smi, or vulkaninfo --summary, must "
            "list it (llama.cpp skips software devices)"
        )
    return CauseEvidence(text, remedy, _slower(1.0))


def _layers_not_asked(situation: Situation) -> CauseEvidence | None:
    layers = situation.layers
    if layers is None or layers.status not in (GpuStatus.NONE_ASKED, GpuStatus.AS_ASKED):
        return None
    fitting = fitting_layers(situation)
    if fitting <= layers.layers_on_gpu:
        return None  # memory keeps them off the GPU
    on_cpu = layers.total_layers - layers.layers_on_gpu
    everything = fitting >= layers.total_layers
    text = (
        f"n_gpu_layers: {layers.asked} leaves {on_cpu} of {layers.total_layers} layers on the CPU"
    )
    free = _free(situation)
    if free:
        need = bytes_text(gpu_need(situation))
        room = f"all need about {need}" if everything else f"about {fitting} fit of {need}"
        text += f"; {room} on {_devices(situation)} ({bytes_text(free)} free)"
    asked = -1 if everything else fitting
    remedy = Remedy.of_settings({"n_gpu_layers": asked})
    gained = (min(fitting, layers.total_layers) - layers.layers_on_gpu) / layers.total_layers
    slower = _slower(situation.cpu_share) / _slower(situation.cpu_share - gained)
    return CauseEvidence(text, remedy, slower)


def _gpu_memory_short(situation: Situation) -> CauseEvidence | None:
    failure = memory_failure(situation.load_error)
    if failure is not None:
        elsewhere = failure.device == "CPU" or is_context_alone(failure, situation.model_bytes)
        return None if elsewhere else _too_large(situation)
    layers = situation.layers
    if layers is None or layers.layers_on_gpu == layers.total_layers or not _free(situation):
        return None
    fewer = layers.status is GpuStatus.FEWER
    asked = layers.status in (GpuStatus.NONE_ASKED, GpuStatus.AS_ASKED)
    if not fewer and not (asked and fitting_layers(situation) <= layers.layers_on_gpu):
        return None
    text = (
        f"only {layers.layers_on_gpu} of {layers.total_layers} layers are on the GPU: all need "
        f"about {bytes_text(gpu_need(situation))}, {_devices(situation)} had "
        f"{bytes_text(_free(situation))} free"
    )
    return CauseEvidence(text, _make_room(situation), _slower(situation.cpu_share))


def _too_large(situation: Situation) -> CauseEvidence:
    failure = memory_failure(situation.load_error)
    assert failure is not None
    asked = situation.config.get("n_gpu_layers", -1)
    size = f"a buffer of {bytes_text(failure.size)}" if failure.size else "a buffer"
    memory = situation.hardware.gpu_memory
    card = f" (the card has {bytes_text(memory[0])})" if len(memory) == 1 else ""
    layers = "all layers" if asked < 0 else f"n_gpu_layers: {asked}"
    text = (
        f"{size} could not be allocated on the GPU{card} for {layers} of "
        f"{bytes_text(situation.model_bytes)} and n_ctx: {situation.config.get('n_ctx')}"
    )
    return CauseEvidence(text, _make_room(situation), LAYER_ON_CPU)


def _make_room(situation: Situation) -> Remedy:
    """Choose the mildest change, not yet made, that lets more layers fit."""
    config = situation.config
    if config.get("type_k") is None and config.get("type_v") is None and situation.kv_bytes:
        saved = situation.kv_bytes * 15 // 32
        if gpu_need(situation) - saved <= _free(situation):
            smaller = {"flash_attn": True, "type_k": "q8_0", "type_v": "q8_0"}
            return Remedy.of_settings(smaller, f"the KV cache is then {bytes_text(saved)} smaller")
    room = _free(situation) or sum(situation.hardware.gpu_memory)
    model = situation.llama.model_bytes if situation.llama else situation.model_bytes
    rest = max(0, gpu_need(situation) - model) if situation.llama else 0
    size = f" of at most {bytes_text(round((room - rest) * 0.95))}" if room > rest else ""
    return Remedy(
        f"model_path: a smaller quantization{size}",
        hint=(
            "or close what else is on the card (nvidia-smi), or take a smaller n_ctx; "
            f"n_gpu_layers: {_as_many(situation)} loads what fits"
        ),
    )


def _as_many(situation: Situation) -> str:
    fitting = fitting_layers(situation) if situation.llama is not None else 0
    return str(fitting) if fitting else "N"


def _kv_cache_on_cpu(situation: Situation) -> CauseEvidence | None:
    layers = situation.layers
    if layers is None or not layers.kv_on_host or situation.config.get("offload_kqv", True):
        return None
    host = sum(device.kv_bytes for device in layers.devices if device.is_host)
    text = (
        f"offload_kqv: false keeps the KV cache ({bytes_text(host or situation.kv_bytes)}) in "
        f"system memory, with {layers.layers_on_gpu} of {layers.total_layers} layers on the GPU: "
        "the CPU computes their attention"
    )
    slower = _slower(min(1.0, situation.kv_read_share + 0.1))
    return CauseEvidence(text, Remedy.of_settings({"offload_kqv": True}), slower)


def _free(situation: Situation) -> int:
    return sum(device.free_bytes for device in situation.gpu_devices)


def _devices(situation: Situation) -> str:
    names = [device.description or device.name for device in situation.gpu_devices]
    return " and ".join(dict.fromkeys(names)) or "the GPU"


def _total(situation: Situation) -> int:
    layers = situation.layers
    return layers.total_layers if layers is not None else 0


GPU_CAUSES = (
    Cause("cpu_only_build", "the engine was built without GPU code", "GPU", _cpu_only_build),
    Cause("no_gpu_visible", "the engine has GPU code and sees no GPU", "GPU", _no_gpu_visible),
    Cause("layers_not_asked", "n_gpu_layers leaves layers on the CPU", "GPU", _layers_not_asked),
    Cause("gpu_memory_short", "GPU memory is too small", "GPU", _gpu_memory_short),
    Cause("kv_cache_on_cpu", "the KV cache is kept off the GPU", "GPU", _kv_cache_on_cpu),
)
