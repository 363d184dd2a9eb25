"""Causes in system memory: a model that is too large, or copied instead of mapped; swapping."""

from __future__ import annotations

from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.diagnosis.load_failure import is_context_alone, memory_failure
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.diagnosis.sizes import bytes_text, host_need

#: Share of the memory that the system and other programs keep.
_KEPT = 0.05


def _memory_short(situation: Situation) -> CauseEvidence | None:
    memory = situation.hardware.memory
    room = round(memory.total * (1.0 - _KEPT))
    limit = "the limit of this control group is" if memory.limited else "the machine has"
    failure = memory_failure(situation.load_error)
    if failure is not None:
        if failure.device != "CPU" or is_context_alone(failure, situation.model_bytes):
            return None
        size = f"a buffer of {bytes_text(failure.size)}" if failure.size else "memory"
        text = (
            f"{size} could not be allocated while loading a model of "
            f"{bytes_text(situation.model_bytes)}; {limit} {bytes_text(memory.total)}, "
            f"{bytes_text(memory.available)} available"
        )
        return CauseEvidence(text, _smaller(situation, memory.available), 20.0)
    need = host_need(situation)
    if situation.llama is None or need <= room:
        return None
    text = (
        f"the engine needs {bytes_text(need)} of system memory, and {limit} "
        f"{bytes_text(memory.total)}: weights are read from the disk again for every token"
    )
    return CauseEvidence(text, _smaller(situation, room), 20.0)


def _smaller(situation: Situation, room: int) -> Remedy:
    if situation.config.get("use_mmap") is False:
        return Remedy.of_settings(
            {"use_mmap": True}, "the weights then take no memory besides the file's own"
        )
    return Remedy(
        f"model_path: a smaller quantization, of at most {bytes_text(round(room * 0.9))}",
        hint="or a smaller n_ctx, or more memory",
    )


def _not_mapped(situation: Situation) -> CauseEvidence | None:
    llama, swapping = situation.llama, situation.fitness_finding("swapping")
    if llama is None or llama.use_mmap is not False:
        return None
    if swapping is None:
        return _copied(situation)
    text = (
        f"use_mmap: false keeps {bytes_text(llama.model_bytes)} of weights in memory that can "
        f"be swapped, and {swapping.text}"
    )
    return CauseEvidence(text, Remedy.of_settings({"use_mmap": True}), 10.0)


def _copied(situation: Situation) -> CauseEvidence | None:
    """Return evidence of weights that are copied into memory although they could be mapped."""
    layers = situation.layers
    on_host = [device for device in layers.devices if device.is_host] if layers is not None else []
    copied = sum(device.model_bytes for device in on_host)
    if not copied:
        return None
    text = (
        f"use_mmap: false copies {bytes_text(copied)} of weights from the file's cache at each "
        "start, and keeps both"
    )
    saves = f"{bytes_text(copied)} of memory, and the time to copy it at each start"
    remedy = Remedy.of_settings({"use_mmap": True})
    return CauseEvidence(text, remedy, 1.01, certain=False, saves=saves)


def _swapping(situation: Situation) -> CauseEvidence | None:
    llama, swapping = situation.llama, situation.fitness_finding("swapping")
    if swapping is None or (llama is not None and llama.use_mmap is False):
        return None
    memory = situation.hardware.memory
    text = f"{swapping.text} ({bytes_text(memory.available)} of {bytes_text(memory.total)} is left)"
    remedy = Remedy("close programs that hold memory", hint="or take a smaller model or n_ctx")
    return CauseEvidence(text, remedy, 5.0)


MEMORY_CAUSES = (
    Cause("memory_short", "the model is larger than memory", "memory", _memory_short),
    Cause("not_mapped", "the model is copied instead of mapped", "memory", _not_mapped),
    Cause("swapping", "the system swaps", "memory", _swapping),
)
