"""Causes in the settings: flash attention, batches, context, weights that are not quantized."""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.diagnosis.load_failure import is_context_alone, memory_failure
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.diagnosis.sizes import (
    CONTEXT_STEP,
    bytes_text,
    context_for,
    fitting_layers,
    gpu_need,
    host_need,
)
from pytest_llmperf.models.file_types import FILE_TYPES, RECOMMENDED, quantized_beside
from pytest_llmperf.text import shell_word

#: Flash attention pays on a CPU if the KV cache is this share of what decoding reads, or more.
_CPU_KV_SHARE = 0.2
#: Batches beyond this bring little more; it is llama.cpp's own default.
_GOOD_BATCH = 512
#: A context of this many times the tokens in use is too large.
_FAR_LARGER = 4
#: Bits of a weight from which a model counts as not quantized: F16 has 16.
_BITS = 15.0
#: Smaller weights may stay in a CPU's caches: they are not read from memory for every token.
_CACHED = 64 << 20


def _flash_attention_off(situation: Situation) -> CauseEvidence | None:
    llama, layers = situation.llama, situation.layers
    if llama is None or layers is None or llama.flash_attn is not False:
        return None
    on_gpu = layers.layers_on_gpu > 0
    if not on_gpu and situation.kv_read_share < _CPU_KV_SHARE:
        return None
    where = f"{layers.layers_on_gpu} of {layers.total_layers} layers on the GPU"
    share = f"{situation.kv_read_share:.0%} of what decoding reads is KV cache"
    text = f"flash attention is off, with {where if on_gpu else share}"
    slower = 1.2 if on_gpu else 1.0 + situation.kv_read_share / 4
    return CauseEvidence(text, Remedy.of_settings({"flash_attn": True}), slower, certain=False)


def _batch_small(situation: Situation) -> CauseEvidence | None:
    llama, prompt = situation.llama, situation.workload_size.prompt_tokens
    if llama is None or not prompt or not llama.n_ubatch:
        return None
    good = min(prompt, _GOOD_BATCH)
    step = min(llama.n_batch, llama.n_ubatch)
    if step >= good:
        return None
    pieces = -(-prompt // step)
    settings = {"n_ubatch": _GOOD_BATCH}
    # n_ubatch may not be larger than n_batch, which llama.cpp itself lowers to n_ctx.
    if int(situation.config.get("n_batch", llama.n_batch)) < _GOOD_BATCH:
        settings = {"n_batch": _GOOD_BATCH, **settings}
    text = (
        f"the prompt of {prompt:,} tokens is computed in {pieces:,} pieces "
        f"(n_batch: {llama.n_batch}, n_ubatch: {llama.n_ubatch})"
    )
    slower = 1.1 + 0.1 * min(pieces, 20)
    return CauseEvidence(text, Remedy.of_settings(settings), slower, certain=False)


def _context_large(situation: Situation) -> CauseEvidence | None:
    failure = memory_failure(situation.load_error)
    if failure is not None:
        alone = is_context_alone(failure, situation.model_bytes)
        return _context_too_large(situation) if alone else None
    llama, size = situation.llama, situation.workload_size
    if llama is None or not situation.kv_bytes or not size.is_users or not size.context:
        return None
    wanted = _context_for(situation)
    unneeded = round(situation.kv_per_token * (llama.n_ctx - wanted))
    if llama.n_ctx < _FAR_LARGER * wanted or unneeded < llama.model_bytes / 2:
        return None
    configured = int(situation.config["n_ctx"])
    text = (
        f"n_ctx: {configured:,} where the workload uses {size.context:,} tokens: "
        f"{bytes_text(unneeded)} of KV cache for nothing"
    )
    remedy = Remedy.of_settings({"n_ctx": wanted})
    if why := _costly(situation, unneeded):
        return CauseEvidence(f"{text}, {why}", remedy, 2.0)
    saves = f"{bytes_text(unneeded)} of memory"
    return CauseEvidence(text, remedy, 1.02, certain=False, saves=saves)


def _context_for(situation: Situation) -> int:
    """Return the n_ctx that the workload and max_tokens need."""
    max_tokens = int(situation.config.get("max_tokens", 0))
    return context_for(max(situation.workload_size.context, max_tokens))


def _costly(situation: Situation, unneeded: int) -> str:
    """Explain why the unneeded memory matters; empty if there is enough."""
    layers = situation.layers
    assert layers is not None
    free = sum(device.free_bytes for device in situation.gpu_devices)
    if free and fitting_layers(situation) < layers.total_layers and unneeded > 0.1 * free:
        return f"on a GPU that has {bytes_text(free)} free for {bytes_text(gpu_need(situation))}"
    memory = situation.hardware.memory.total
    if host_need(situation) > memory:
        return f"of {bytes_text(memory)} of memory"
    return ""


def _context_too_large(situation: Situation) -> CauseEvidence:
    failure = memory_failure(situation.load_error)
    assert failure is not None
    n_ctx = int(situation.config.get("n_ctx", 0))
    available = situation.hardware.memory.available
    if failure.device != "CPU":
        available = sum(situation.hardware.gpu_memory)
    size = f" of {bytes_text(failure.size)}" if failure.size else ""
    room = f"; {bytes_text(available)} is there" if available else ""
    text = f"the KV cache{size} for n_ctx: {n_ctx:,} could not be allocated{room}"
    if situation.workload_size.is_users and situation.workload_size.context:
        fits = _context_for(situation)
    elif failure.size and available:
        # Half of the available memory: the weights and scratch buffers need room, too.
        fits = int(n_ctx * (available / 2) / failure.size) // CONTEXT_STEP * CONTEXT_STEP
        fits = min(max(fits, CONTEXT_STEP), 8192)
    else:
        fits = 2048
    return CauseEvidence(text, Remedy.of_settings({"n_ctx": fits}), 10.0)


def _weights_not_quantized(situation: Situation) -> CauseEvidence | None:
    llama = situation.llama
    if llama is None or not llama.parameters or llama.model_bytes < _CACHED:
        return None
    bits = 8 * llama.model_bytes / llama.parameters
    if bits < _BITS:
        return None
    file = Path(str(situation.config.get("model_path", "")))
    kind, quantized = next(iter(quantized_beside(file).items()), (RECOMMENDED[0], None))
    size = round(llama.model_bytes * FILE_TYPES[kind].bits / bits)
    text = (
        f"the weights have {bits:.0f} bits: decoding reads {bytes_text(llama.model_bytes)} of them "
        f"for every token, and about {bytes_text(size)} of {kind}"
    )
    hint = "answers change with it: llmperf quality compares them"
    if quantized is not None:
        remedy = Remedy.of_settings({"model_path": str(quantized)}, hint)
    else:
        remedy = Remedy(
            f"llmperf model quantize {shell_word(str(file))} --to {kind}", {}, hint, is_command=True
        )
    cached = situation.kv_per_token * situation.workload_size.context
    slower = (llama.model_bytes + cached) / (size + cached)
    return CauseEvidence(text, remedy, slower, certain=False)


SETTINGS_CAUSES = (
    Cause("flash_attention_off", "flash attention is off", "settings", _flash_attention_off),
    Cause("batch_small", "batches are too small for the prompt", "settings", _batch_small),
    Cause("context_large", "the context is far larger than used", "settings", _context_large),
    Cause(
        "weights_not_quantized", "the weights are not quantized", "settings", _weights_not_quantized
    ),
)
