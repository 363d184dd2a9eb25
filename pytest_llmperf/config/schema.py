"""The schema of ``config.yaml``: every key with its type, default and purpose."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from pytest_llmperf.config.fields import (
    CacheType,
    Count,
    Duration,
    Expected,
    Flag,
    Iterations,
    Layers,
    Limits,
    Seed,
    Share,
    Text,
    Tolerance,
    Turns,
    check_severities,
    problems,
)
from pytest_llmperf.config.llm_section import LlamaCppConfig, LlmConfig, read_llm
from pytest_llmperf.config.section import Section
from pytest_llmperf.config.tune_section import TuneConfig
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.units import DEFAULT_TOLERANCE


class PerfConfig(Section):
    """How perf tests are measured and judged."""

    targets: Limits = Field(
        default_factory=dict,
        description=(
            "Targets for metrics that a test's own markers do not name: a minimum for rates, a "
            "maximum for times."
        ),
    )
    tolerance: Tolerance = Field(
        default=DEFAULT_TOLERANCE,
        description=(
            "The slowdown that must be caught; a fifth of it is negligible. auto: what llmperf "
            "calibrate found."
        ),
    )
    false_alarms: Share = Field(
        default=0.01,
        description=(
            "Chance per session that any check with a negligible change is reported as regressed."
        ),
    )
    strict: Flag = Field(
        default=False,
        description="Fail inconclusive tests, instead of passing them with a warning.",
    )
    processes: Count = Field(
        default=3, description="Minimum number of engine processes (or pairs of them) per test."
    )
    max_processes: Count = Field(
        default=12, description="Maximum number of processes per test, if its targets need more."
    )
    max_pairs: Count = Field(
        default=40, description="Maximum number of pairs per test, when two sides are compared."
    )
    iterations: Iterations = Field(
        default=3, description="Minimum number of counted replays of a workload in each process."
    )
    warmup_max: Count = Field(
        default=4,
        description="Maximum number of warm-up replays in each process; they never count.",
    )
    turns: Turns = Field(
        default="auto",
        description=(
            "How the two processes of a pair alternate: by a few tokens or by iterations, side by "
            "side if memory holds both, or by whole processes. auto: tokens, but processes for "
            "an app engine."
        ),
    )
    budget: Duration = Field(default=600.0, description="Time limit for measuring all tests.")
    test_budget: Duration | None = Field(
        default=None, description="Time limit for replaying one test; null: what the budget leaves."
    )
    baselines: Text = Field(
        default="perf_baselines", description="Folder of the baselines, relative to this file."
    )
    accumulate: Flag = Field(
        default=True,
        description="Count pairs from earlier sessions of the same two sides of a comparison.",
    )
    base_install: Text | None = Field(
        default=None,
        description=(
            "Command that installs another commit's dependencies, run in its tree; {python} is "
            "its interpreter. null: uv or pip installs what the commit declares."
        ),
    )
    require_gpu: Flag = Field(
        default=False, description="Fail every perf test unless all layers are on a GPU."
    )
    seed: Seed | None = Field(
        default=None, description="Seed of the random order; null: a new one, which is recorded."
    )
    fitness: Annotated[
        dict[str, Severity], Expected("a mapping of fitness checks to note, warn or invalid")
    ] = Field(
        default_factory=dict,
        description="Most severe result of each fitness check: note, warn or invalid.",
    )
    wait_fit: Duration | None = Field(
        default=None,
        description=("Longest wait for a busy or hot machine to recover; null: don't wait."),
    )

    @model_validator(mode="after")
    def _max_is_not_below_processes(self) -> PerfConfig:
        given = self.model_fields_set
        wrong: list[tuple[str, str, Any]] = []
        for limit in ("max_processes", "max_pairs"):
            if getattr(self, limit) < self.processes and limit in given:
                text = f"{limit} ({getattr(self, limit)}) must not be below processes"
                wrong.append((limit, f"{text} ({self.processes})", None))
        if wrong:
            raise problems("perf", wrong)
        return self

    @field_validator("fitness", mode="before")
    @classmethod
    def _fitness_is_known(cls, fitness: Any) -> Any:
        if not isinstance(fitness, dict):
            return fitness
        severities, wrong = check_severities(fitness)
        if wrong:
            raise problems("fitness", wrong)
        return severities


class QualityReference(Section):
    """Settings in which the reference differs from the engine that is measured."""

    model_path: Text | None = Field(
        default=None,
        description="Model of the reference, such as the F16 or Q8_0 file; null: the same model.",
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


class QualityConfig(Section):
    """What the quality of answers is compared with, and on which text."""

    reference: QualityReference = Field(
        default_factory=QualityReference,
        description="What answers are compared with: another model file, other settings, or both.",
    )
    text: Text | None = Field(
        default=None,
        description="A text file to score; null: the tests' own prompts and the answers to them.",
    )


class Config(Section):
    """Settings of pytest-llmperf for one machine and model."""

    llm: Annotated[SerializeAsAny[LlmConfig], PlainValidator(read_llm)] = Field(
        default_factory=LlamaCppConfig, description="The engine and its model."
    )
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
                f"llm.engine: {self.llm.engine} does not report where its layers are, so "
                "require_gpu can't be checked; remove require_gpu, or set llm.engine: llama_cpp"
            )
            raise problems("perf", [("require_gpu", text, True)], ("perf",))
        return self

    @model_validator(mode="after")
    def _reference_is_valid(self) -> Config:
        try:
            _ = self.reference_llm
        except ValidationError as error:
            wrong = [
                (str(item["loc"][-1]) if item["loc"] else "model_path", str(item["msg"]), None)
                for item in error.errors()
            ]
            raise problems("quality", wrong, ("quality", "reference")) from None
        return self

    @property
    def reference_llm(self) -> LlmConfig | None:
        """The settings of the reference's engine; None if the configuration names no reference.

        An engine that reports no probabilities has no reference: the result is its own settings.
        """
        changes = self.quality.reference.changes
        if not changes:
            return None
        if not self.llm.kind.scores:
            return self.llm
        given = self.llm.model_dump(exclude_unset=True)
        return read_llm({**given, **changes})
