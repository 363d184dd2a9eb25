"""The schema of ``config.yaml``: every key with its type, default and purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
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
    Iterations,
    Layers,
    Seed,
    Share,
    Shares,
    SplitMode,
    Text,
    Threads,
    Tolerance,
    Turns,
    check_limits,
    check_options,
    check_severities,
    plain_json_problem,
    problems,
)
from pytest_llmperf.config.tune_section import TuneConfig
from pytest_llmperf.cpus import auto_threads
from pytest_llmperf.engine_kinds import DOTTED, EngineKind, EngineKindError, engine_kind
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.units import DEFAULT_TOLERANCE

if TYPE_CHECKING:
    from pathlib import Path


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LlmConfig(_Section):
    """The engine and its model."""

    engine: EngineName = Field(
        default="llama_cpp",
        description="What generates: llama_cpp, app, or an engine that a package provides.",
    )
    target: Text | None = Field(
        default=None,
        description="With engine app: the callable to measure, package.module:callable.",
        json_schema_extra={"examples": ["myapp.rag:answer"]},
    )
    model_path: Text = Field(
        default="smollm2-135m",
        description="A GGUF file, an embedded model's name, or hf://owner/repo/file.gguf.",
    )
    n_ctx: Count = Field(
        default=2048, description="Context size in tokens: prompt and answer together."
    )
    n_batch: Count = Field(default=1024, description="Most prompt tokens submitted at once.")
    n_ubatch: Count = Field(
        default=512,
        description="Most tokens computed at once; at most n_batch (a default is lowered).",
    )
    max_tokens: Count = Field(
        default=256, description="Output tokens of a request that does not say."
    )
    n_threads: Threads = Field(
        default="auto", description="CPU threads that decode; auto: the usable CPUs, at most 8."
    )
    n_threads_batch: Threads = Field(
        default="auto", description="CPU threads that prefill; auto: the usable CPUs, at most 8."
    )
    use_mmap: Flag = Field(default=True, description="Map the model file instead of reading it.")
    use_mlock: Flag = Field(default=False, description="Lock the model in memory.")
    n_gpu_layers: Layers = Field(default=-1, description="Layers on the GPU; -1: all.")
    split_mode: SplitMode = Field(default="layer", description="How several GPUs share the model.")
    main_gpu: Index = Field(default=0, description="The GPU to use where only one is.")
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
    seed: Seed = Field(default=42, description="Seed of the sampler.")
    load_timeout: Duration = Field(default=300.0, description="Longest time to load the model.")
    generation_timeout: Duration = Field(default=120.0, description="Longest time for one request.")
    extra: Annotated[dict[str, Any], Expected("a mapping of the engine's own arguments")] = Field(
        default_factory=dict,
        description="Any other argument of the engine; the options of one that a package provides.",
    )

    @field_validator("engine")
    @classmethod
    def _engine_is_installed(cls, engine: str) -> str:
        try:
            engine_kind(engine)
        except EngineKindError as error:
            raise PydanticCustomError("llmperf", "{text}", {"text": str(error)}) from None
        return engine

    @field_validator("target")
    @classmethod
    def _target_is_dotted(cls, target: str | None) -> str | None:
        if target is not None and DOTTED.fullmatch(target) is None:
            text = f"expected package.module:callable such as myapp.rag:answer, got {target!r}"
            raise PydanticCustomError("llmperf", "{text}", {"text": text})
        return target

    @field_validator("extra")
    @classmethod
    def _extra_is_extra(cls, extra: dict[str, Any]) -> dict[str, Any]:
        found = []
        for key, value in extra.items():
            if key in cls.model_fields:
                found.append((key, f"is a setting itself; set llm.{key} instead", value))
            elif problem := plain_json_problem(value):
                found.append((key, problem, value))
        if found:
            raise problems("extra", found)
        return extra

    @model_validator(mode="after")
    def _fits_together(self) -> LlmConfig:
        found: list[tuple[str | tuple[str, ...], str, Any]] = []
        given = self.model_fields_set
        if self.kind.needs == "target" and self.target is None:
            text = (
                f"engine {self.engine} needs llm.target, the callable to measure, such as "
                "myapp.rag:answer"
            )
            found.append(("engine", text, None))
        if self.kind.needs != "target" and self.target is not None:
            found.append(("target", "is only used with llm.engine: app", self.target))
        if self.max_tokens >= self.n_ctx:
            key = "max_tokens" if "max_tokens" in given else "n_ctx"
            text = f"max_tokens ({self.max_tokens}) must be smaller than n_ctx ({self.n_ctx})"
            found.append((key, text, None))
        if "n_ubatch" in given and self.n_ubatch > self.n_batch:
            text = f"n_ubatch ({self.n_ubatch}) must not be larger than n_batch ({self.n_batch})"
            found.append(("n_ubatch", text, None))
        if self.type_v in QUANTIZED_CACHE_TYPES and not self.flash_attn:
            text = f"{self.type_v} values need flash attention; set llm.flash_attn: true"
            found.append(("type_v", text, None))
        if self.tensor_split is not None and not any(self.tensor_split):
            found.append(("tensor_split", "at least one share must be above 0", None))
        _, refused = check_options(self.kind, self.extra)
        found += [(("extra", *path), text, value) for path, text, value in refused]
        if found:
            raise problems("llm", found)
        return self

    @property
    def kind(self) -> EngineKind:
        """The kind of engine that ``engine`` names."""
        return engine_kind(self.engine)

    def resolved(self, model_file: Path | None = None) -> dict[str, Any]:
        """Return the settings as plain JSON types, every ``auto`` replaced by its number.

        Args:
            model_file: replaces ``model_path``, for the engine; without it the
                path stays as the user wrote it, for records that others read.
        """
        settings = self.model_dump(mode="json")
        for key in ("n_threads", "n_threads_batch"):
            if settings[key] == "auto":
                settings[key] = auto_threads()
        settings["n_ubatch"] = min(self.n_ubatch, self.n_batch)
        settings["extra"], _ = check_options(self.kind, self.extra)
        if model_file is not None:
            settings["model_path"] = str(model_file.absolute())
        return settings


class PerfConfig(_Section):
    """How perf tests are measured and judged."""

    targets: Annotated[dict[str, float], Expected("a mapping of metrics to limits")] = Field(
        default_factory=dict,
        description=(
            "Limits of the metrics a test's markers do not name: at least for rates, "
            "at most for times."
        ),
    )
    tolerance: Tolerance = Field(
        default=DEFAULT_TOLERANCE,
        description="The slowdown that must be caught; auto: what llmperf calibrate found.",
    )
    false_alarms: Share = Field(
        default=0.01,
        description="Chance per session that any check with a negligible change is regressed.",
    )
    strict: Flag = Field(
        default=False, description="Fail what is inconclusive, instead of passing with a warning."
    )
    processes: Count = Field(
        default=3, description="Fewest fresh engine processes (or pairs of them) per test."
    )
    max_processes: Count = Field(
        default=12, description="Most processes per test, where its targets need more to decide."
    )
    max_pairs: Count = Field(
        default=40, description="Most pairs of processes per test, where two sides are compared."
    )
    iterations: Iterations = Field(default=3, description="Replays of a workload in each process.")
    warmup_max: Count = Field(default=4, description="Most warm-up replays in each process.")
    turns: Turns = Field(
        default="auto",
        description=(
            "What the two processes of a pair take turns by: tokens or iterations, side by side "
            "where memory (of every GPU, too) holds both, or whole processes; auto: tokens, but "
            "for an app engine."
        ),
    )
    budget: Duration = Field(
        default=600.0, description="Longest time to measure, for all tests together."
    )
    test_budget: Duration | None = Field(
        default=None, description="Longest time to replay one test; null: what the budget leaves."
    )
    baselines: Text = Field(
        default="perf_baselines", description="Folder of the baselines, relative to this file."
    )
    accumulate: Flag = Field(
        default=True,
        description="Count the pairs of earlier sessions that measured the very same two commits.",
    )
    base_install: Text | None = Field(
        default=None,
        description=(
            "Command that installs another commit's dependencies, run in its tree with {python} "
            "replaced; null: found out from what it declares."
        ),
    )
    require_gpu: Flag = Field(
        default=False, description="Fail every perf test unless all layers are on a GPU."
    )
    seed: Seed | None = Field(
        default=None, description="Seed of the random order; null: a new one."
    )
    fitness: Annotated[
        dict[str, Severity], Expected("a mapping of fitness checks to note, warn or invalid")
    ] = Field(
        default_factory=dict,
        description="The most severe that each fitness check may be: note, warn or invalid.",
    )
    wait_fit: Duration | None = Field(
        default=None,
        description=(
            "Longest time a session waits for a busy or hot machine to recover; null: not at all."
        ),
    )

    @model_validator(mode="after")
    def _max_is_not_below_processes(self) -> PerfConfig:
        given = self.model_fields_set
        found: list[tuple[str, str, Any]] = []
        for limit in ("max_processes", "max_pairs"):
            if getattr(self, limit) < self.processes and limit in given:
                text = f"{limit} ({getattr(self, limit)}) must not be below processes"
                found.append((limit, f"{text} ({self.processes})", None))
        if found:
            raise problems("perf", found)
        return self

    @field_validator("targets", mode="before")
    @classmethod
    def _targets_are_limits(cls, targets: Any) -> Any:
        if not isinstance(targets, dict):
            return targets
        limits, found = check_limits(targets)
        if found:
            raise problems("targets", found)
        return limits

    @field_validator("fitness", mode="before")
    @classmethod
    def _fitness_is_known(cls, fitness: Any) -> Any:
        if not isinstance(fitness, dict):
            return fitness
        severities, found = check_severities(fitness)
        if found:
            raise problems("fitness", found)
        return severities


class QualityReference(_Section):
    """Settings in which the reference differs from the engine that is measured."""

    model_path: Text | None = Field(
        default=None, description="Its model, such as the F16 or Q8_0 file; null: the same model."
    )
    n_batch: Count | None = Field(default=None, description="As in llm; null: the same.")
    n_ubatch: Count | None = Field(default=None, description="As in llm; null: the same.")
    n_gpu_layers: Layers | None = Field(default=None, description="As in llm; null: the same.")
    flash_attn: Flag | None = Field(default=None, description="As in llm; null: the same.")
    type_k: CacheType | None = Field(default=None, description="As in llm; null: the same.")
    type_v: CacheType | None = Field(default=None, description="As in llm; null: the same.")

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that are given."""
        return self.model_dump(exclude_none=True)


class QualityConfig(_Section):
    """What the quality of answers is compared with, and on which text."""

    reference: QualityReference = Field(
        default_factory=QualityReference,
        description="What answers are compared with: another model file, other settings, or both.",
    )
    text: Text | None = Field(
        default=None,
        description="A text file to score; null: the tests' own prompts and the answers to them.",
    )


class Config(_Section):
    """Settings of pytest-llmperf for one machine and model."""

    llm: LlmConfig = Field(default_factory=LlmConfig, description="The engine and its model.")
    perf: PerfConfig = Field(
        default_factory=PerfConfig, description="How perf tests are measured and judged."
    )
    quality: QualityConfig = Field(
        default_factory=QualityConfig,
        description="What the quality of answers is compared with, and on which text.",
    )
    tune: TuneConfig = Field(
        default_factory=TuneConfig, description="What llmperf tune may change, and its bounds."
    )

    @model_validator(mode="after")
    def _gpu_layers_are_known(self) -> Config:
        if self.perf.require_gpu and not self.llm.kind.reports_layers:
            text = (
                f"llm.engine: {self.llm.engine} does not say where its layers are, so require_gpu "
                "can't be checked; take require_gpu away, or set llm.engine: llama_cpp"
            )
            raise problems("perf", [("require_gpu", text, True)], ("perf",))
        return self

    @model_validator(mode="after")
    def _reference_is_valid(self) -> Config:
        try:
            _ = self.reference_llm
        except ValidationError as error:
            found = [
                (str(item["loc"][-1]) if item["loc"] else "model_path", str(item["msg"]), None)
                for item in error.errors()
            ]
            raise problems("quality", found, ("quality", "reference")) from None
        return self

    @property
    def reference_llm(self) -> LlmConfig | None:
        """The settings of the reference's engine; None if the configuration names none."""
        changes = self.quality.reference.changes
        if not changes:
            return None
        given = self.llm.model_dump(exclude_unset=True)
        return LlmConfig.model_validate({**given, **changes})
