"""The ``llm`` section: one schema for each kind of engine, composed of the parts that it uses.

``engine`` decides which schema a section has. The schemas of llama.cpp, applications and servers
are classes here; the schema of another package's engine follows from what its kind declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pytest_llmperf.config.fields import (
    QUANTIZED_CACHE_TYPES,
    CacheType,
    Count,
    Duration,
    EngineName,
    Expected,
    Flag,
    Index,
    Layers,
    Seed,
    Shares,
    SplitMode,
    Text,
    Threads,
    check_options,
    plain_json_problem,
    problems,
)
from pytest_llmperf.config.section import Part, Problem
from pytest_llmperf.config.server_arguments import argument_problems
from pytest_llmperf.config.server_section import ServerPart
from pytest_llmperf.cpus import auto_threads
from pytest_llmperf.engine_kinds import DOTTED, EngineKind, EngineKindError, engine_kind
from pytest_llmperf.units import shown

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo

_RUNS_ALREADY = (
    "llm.url names a server that runs already, so it can't be given arguments; remove it, or let "
    "llm.start start the server (fields of its requests belong in llm.body)"
)
#: The engine if the section names no engine.
DEFAULT_ENGINE = "llama_cpp"


class _Named(Part):
    engine: EngineName = Field(
        default=DEFAULT_ENGINE,
        description=(
            "The engine: llama_cpp, app (your own code), server (an OpenAI-compatible server), or "
            "one that a package provides."
        ),
    )


class TargetSettings(Part):
    """The callable that an engine calls."""

    target: Text = Field(
        description="The function to measure, as package.module:function.",
        json_schema_extra={"examples": ["myapp.rag:answer"]},
    )

    @field_validator("target")
    @classmethod
    def _target_is_dotted(cls, target: str) -> str:
        if DOTTED.fullmatch(target) is None:
            text = f"expected package.module:callable such as myapp.rag:answer, got {target!r}"
            raise PydanticCustomError("llmperf", "{text}", {"text": text})
        return target


class ModelSettings(Part):
    """The model file that an engine loads."""

    model_path: Text = Field(
        default="smollm2-135m",
        description="A GGUF file, an embedded model's name, or hf://owner/repo/file.gguf.",
    )


class ContextSettings(Part):
    """The sizes of a llama.cpp context and of its batches."""

    n_ctx: Count = Field(
        default=2048, description="Context size in tokens: prompt and answer together."
    )
    n_batch: Count = Field(
        default=1024, description="Maximum number of prompt tokens submitted at once."
    )
    n_ubatch: Count = Field(
        default=512,
        description="Maximum number of tokens computed at once; not above n_batch.",
    )


class _Answered(Part):
    max_tokens: Count = Field(
        default=256, description="Output tokens of a request that sets no max_tokens."
    )


class ThreadSettings(Part):
    """The CPU threads of an engine that computes on this machine."""

    n_threads: Threads = Field(
        default="auto", description="CPU threads that decode; auto: the usable CPUs, at most 8."
    )
    n_threads_batch: Threads = Field(
        default="auto", description="CPU threads that prefill; auto: the usable CPUs, at most 8."
    )


class LlamaSettings(ThreadSettings, _Answered, ContextSettings):
    """The settings of llama.cpp."""

    use_mmap: Flag = Field(default=True, description="Map the model file instead of reading it.")
    use_mlock: Flag = Field(default=False, description="Lock the model in memory.")
    n_gpu_layers: Layers = Field(default=-1, description="Layers on the GPU; -1: all.")
    split_mode: SplitMode = Field(default="layer", description="How several GPUs share the model.")
    main_gpu: Index = Field(default=0, description="The GPU to use if only one is used.")
    tensor_split: Shares | None = Field(default=None, description="Each GPU's share of the model.")
    flash_attn: Flag = Field(default=False, description="Use flash attention.")
    type_k: CacheType | None = Field(
        default=None, description="Type of the KV cache's keys; null: f16."
    )
    type_v: CacheType | None = Field(
        default=None,
        description="Type of the KV cache's values; null: f16. Quantized needs flash_attn.",
    )
    offload_kqv: Flag = Field(default=True, description="Keep the KV cache on the GPU.")
    chat_format: Text | None = Field(
        default=None, description="Chat template by name; null: the model's own."
    )

    def conflicts(self) -> Iterator[Problem]:
        """Yield settings that llama.cpp can't combine."""
        given = self.model_fields_set
        if self.max_tokens >= self.n_ctx:
            key = "max_tokens" if "max_tokens" in given else "n_ctx"
            text = f"max_tokens ({self.max_tokens}) must be smaller than n_ctx ({self.n_ctx})"
            yield key, text, None
        if "n_ubatch" in given and self.n_ubatch > self.n_batch:
            text = f"n_ubatch ({self.n_ubatch}) must not be larger than n_batch ({self.n_batch})"
            yield "n_ubatch", text, None
        if self.type_v in QUANTIZED_CACHE_TYPES and not self.flash_attn:
            text = f"{self.type_v} values need flash attention; set llm.flash_attn: true"
            yield "type_v", text, None
        if self.tensor_split is not None and not any(self.tensor_split):
            yield "tensor_split", "at least one share must be above 0", None
        yield from super().conflicts()


class LlmConfig(_Answered, _Named):
    """The engine and its model: the keys that every kind of engine has."""

    seed: Seed = Field(default=42, description="Seed of the sampler.")
    load_timeout: Duration = Field(default=300.0, description="Time limit for loading the model.")
    generation_timeout: Duration = Field(default=120.0, description="Time limit for one request.")
    extra: Annotated[dict[str, Any], Expected("a mapping of the engine's own arguments")] = Field(
        default_factory=dict,
        description=(
            "Any other argument of the engine, by name; for a server the options of start, without "
            "dashes."
        ),
    )

    @field_validator("extra")
    @classmethod
    def _extra_is_extra(cls, extra: dict[str, Any]) -> dict[str, Any]:
        wrong = []
        for key, value in extra.items():
            # For a server they are arguments of its command, even if llm has a key of that name.
            if key in cls.model_fields and not issubclass(cls, ServerPart):
                wrong.append(
                    (key, f"is not an extra argument but a setting; set llm.{key} instead", value)
                )
            elif problem := plain_json_problem(value):
                wrong.append((key, problem, value))
        if wrong:
            raise problems("extra", wrong)
        return extra

    @model_validator(mode="after")
    def _fits_together(self) -> LlmConfig:
        if wrong := list(self.conflicts()):
            raise problems("llm", wrong)
        return self

    def conflicts(self) -> Iterator[Problem]:
        """Yield values that can't be combined, and options that the engine does not take."""
        yield from super().conflicts()
        _, refused = check_options(self.kind, self.extra)
        for path, text, value in refused:
            yield ("extra", *path), text, value

    @property
    def kind(self) -> EngineKind:
        """The kind of engine that ``engine`` names."""
        return engine_kind(self.engine).of_section(dict(self))

    def resolved(self, model_file: Path | None = None) -> dict[str, Any]:
        """Return the settings as plain JSON types, every ``auto`` replaced by its number.

        Args:
            model_file: for the engine, replaces ``model_path``; if None, the path
                stays as the user wrote it, for records that others read.
        """
        settings = self.model_dump(mode="json")
        for key in ThreadSettings.model_fields:
            if settings.get(key) == "auto":
                settings[key] = auto_threads()
        if "n_ubatch" in settings:
            settings["n_ubatch"] = min(settings["n_ubatch"], settings["n_batch"])
        settings["extra"], _ = check_options(self.kind, self.extra)
        if model_file is not None:
            settings["model_path"] = str(model_file.absolute())
        return settings


class LlamaCppConfig(LlmConfig, LlamaSettings, ModelSettings, _Named):
    """llama.cpp and its model."""

    engine: Literal["llama_cpp"] = Field(
        default="llama_cpp", description="What generates: llama.cpp."
    )


class AppConfig(LlmConfig, ThreadSettings, TargetSettings, _Named):
    """An application's own function."""

    engine: Literal["app"] = Field(description="What generates: your own code.")


class ServerConfig(LlmConfig, ServerPart, _Named):
    """An OpenAI-compatible server."""

    engine: Literal["server"] = Field(description="What generates: an OpenAI-compatible server.")

    def conflicts(self) -> Iterator[Problem]:
        """Yield arguments that the server can't be started with."""
        yield from super().conflicts()
        if self.start is not None:
            for name, text in argument_problems(self.start, self.extra):
                yield ("extra", name), text, None
        elif self.url is not None:
            for name in self.extra:
                yield ("extra", name), _RUNS_ALREADY, None


class AnyLlmConfig(LlmConfig, LlamaSettings, ModelSettings, TargetSettings, _Named):
    """An engine of an installed package, whose kind decides which of these settings it uses."""

    target: Text | None = Field(  # type: ignore[assignment]
        default=None, description="The function to measure, as package.module:function."
    )


_OWN: dict[str, type[LlmConfig]] = {
    "llama_cpp": LlamaCppConfig,
    "app": AppConfig,
    "server": ServerConfig,
}
#: The section's keys for all engines together, in the order in which files have them.
LLM_FIELDS: Mapping[str, FieldInfo] = {**ServerConfig.model_fields, **AnyLlmConfig.model_fields}


def llm_schema(engine: object) -> type[LlmConfig]:
    """Return the section's schema for an engine; the default's if there is no such engine."""
    try:
        return _schema_of(engine_kind(engine)) if isinstance(engine, str) else LlamaCppConfig
    except EngineKindError:
        return LlamaCppConfig


@lru_cache(maxsize=32)
def _schema_of(kind: EngineKind) -> type[LlmConfig]:
    if own := _OWN.get(kind.name):
        return own
    parts: list[type[Part]] = [LlamaSettings] if _is_like_llama(kind) else [ThreadSettings]
    if kind.needs == "model":
        parts.append(ModelSettings)
    if kind.needs == "target":
        parts.append(TargetSettings)
    engine: Any = (EngineName, Field(description="An engine that a package provides."))
    bases: Any = (LlmConfig, *parts, _Named)
    made: type[LlmConfig] = create_model(f"{kind.name}Config", __base__=bases, engine=engine)
    return made


def _is_like_llama(kind: EngineKind) -> bool:
    # Texts are scored in pieces of n_ctx tokens.
    return kind.uses_llama_settings or kind.scores


def read_llm(section: object) -> LlmConfig:
    """Return a section, validated by the schema of its engine.

    Raises:
        ValidationError: a value is wrong, or there is no such engine; paths start in the section.
    """
    if isinstance(section, LlmConfig):
        return section
    if not isinstance(section, Mapping):
        text = f"expected a mapping of keys, got {shown(section)}"
        raise PydanticCustomError("llmperf", "{text}", {"text": text})
    engine = section.get("engine", DEFAULT_ENGINE)
    if not isinstance(engine, str) or not engine:
        words = "expected the name of an engine, such as llama_cpp, app or server"
        raise problems("llm", [("engine", f"{words}, got {shown(engine)}", engine)])
    try:
        kind = engine_kind(engine)
    except EngineKindError as error:
        raise problems("llm", [("engine", str(error), engine)]) from None
    return _schema_of(kind).model_validate(dict(section))


def misplaced_key_message(key: str, engine: str) -> str:
    """Return the message for a key that only other engines have; empty if no engine has it."""
    if key not in LLM_FIELDS:
        return ""
    owners = [name for name, schema in _OWN.items() if key in schema.model_fields]
    named = " or ".join(owners)
    return (
        f"is a setting of engine {named}, and this section's engine is {engine}; remove it, or "
        f"set llm.engine: {named}"
    )
