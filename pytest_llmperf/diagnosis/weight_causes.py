"""Causes in the model's weights: that they are not quantized."""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.diagnosis.sizes import bytes_text
from pytest_llmperf.models.file_types import FILE_TYPES, renamed
from pytest_llmperf.text import shell_word

#: Bits of a weight from which a model counts as not quantized: F16 has 16.
_BITS = 15.0
#: Smaller weights may stay in a CPU's caches: they are not read from memory for every token.
_CACHED = 64 << 20
#: Quantizations that lose little, the preferred one first.
_KINDS = ("Q4_K_M", "Q5_K_M", "Q4_K_S", "Q5_K_S", "Q6_K", "Q8_0")


def _weights_not_quantized(situation: Situation) -> CauseEvidence | None:
    llama = situation.llama
    if llama is None or not llama.parameters or llama.model_bytes < _CACHED:
        return None
    bits = 8 * llama.model_bytes / llama.parameters
    if bits < _BITS:
        return None
    file = Path(str(situation.config.get("model_path", "")))
    kind, quantized = _quantized(file)
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
    cached = situation.kv_per_token * situation.use.context
    slower = (llama.model_bytes + cached) / (size + cached)
    return CauseEvidence(text, remedy, slower, certain=False)


def _quantized(file: Path) -> tuple[str, Path | None]:
    """Return a quantization, and the file of it beside a model's if there is one."""
    for kind in _KINDS:
        other = file.with_name(f"{renamed(file.stem, kind)}.gguf")
        if other != file and other.is_file():
            return kind, other
    return _KINDS[0], None


WEIGHT_CAUSES = (
    Cause(
        "weights_not_quantized", "the weights are not quantized", "settings", _weights_not_quantized
    ),
)
