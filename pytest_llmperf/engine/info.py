"""Facts that an engine reports about itself once it has loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import NoneType
from typing import Any

from pytest_llmperf.engine.load_report import GpuUtilization
from pytest_llmperf.engine.model_reads import ModelReads

#: Python types of the fields that plain JSON values fill, by annotation.
_SIMPLE: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "str | None": (str, NoneType),
    "bool | None": (bool, NoneType),
}


@dataclass(frozen=True)
class EngineInfo:
    """Model, build and thread counts; an ``app`` engine fills in only its name.

    Attributes:
        engine: as ``llm.engine`` names it; ``engine_version`` is its package's.
        build_flags: what llama.cpp was compiled with (``llama_print_system_info``).
        supports_gpu: whether the build has GPU code.
        model_name: the file's name without suffix; ``model_title`` is the GGUF's own name.
        quantization: as llama.cpp names it, for example ``Q4_1``.
        file_bytes, model_bytes: size of the model's files, and of the tensors in them.
        n_layers: layers without the output layer.
        n_ubatch: maximum number of tokens computed at once.
        flash_attn: whether flash attention is used, or None where llama.cpp does not report it.
        use_mmap: whether the model file is mapped, or None where llama.cpp does not report it.
        gpu: where the layers went, or None for an engine that does not report it.
        slots: number of requests that a server computes at once; 0 where it does not say.
        reads: bytes a decode step reads from memory, or None for an engine (or an older
            worker) that does not report it.
    """

    engine: str
    engine_version: str
    model_name: str
    build_flags: str = ""
    supports_gpu: bool = False
    model_path: str | None = None
    model_title: str = ""
    model_description: str = ""
    architecture: str = ""
    quantization: str = ""
    file_bytes: int = 0
    model_bytes: int = 0
    parameters: int = 0
    n_layers: int = 0
    n_ctx: int = 0
    n_ctx_train: int = 0
    n_vocab: int = 0
    n_batch: int = 0
    n_ubatch: int = 0
    n_threads: int = 0
    n_threads_batch: int = 0
    flash_attn: bool | None = None
    use_mmap: bool | None = None
    chat_format: str | None = None
    slots: int = 0
    gpu: GpuUtilization | None = None
    reads: ModelReads | None = None

    def mapped_bytes(self, *, locked: bool) -> int:
        """Return the bytes of the model that the host reads from its file on demand.

        ``locked``: the configuration locks it in memory (``use_mlock``).
        """
        if not self.use_mmap or locked or self.gpu is None:
            return 0
        return sum(device.model_bytes for device in self.gpu.devices if device.is_host)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> EngineInfo:
        """Build from a worker's answer; fields of a newer worker are left out.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: a field is missing or of a wrong type.
        """
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in data.items() if name in known}
        if kept.get("gpu") is not None:
            kept["gpu"] = GpuUtilization.from_wire(kept["gpu"])
        if kept.get("reads") is not None:
            kept["reads"] = ModelReads.from_wire(kept["reads"])
        for field in fields(cls):
            kind = _SIMPLE.get(str(field.type))
            value = kept.get(field.name)
            if kind is not None and field.name in kept and not isinstance(value, kind):
                raise TypeError(f"{field.name}: expected {field.type}, got {value!r}")
        return cls(**kept)
