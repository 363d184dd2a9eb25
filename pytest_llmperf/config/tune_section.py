"""The ``tune`` section of ``config.yaml``: the search space of ``llmperf tune``, and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from pydantic.fields import FieldInfo

from pytest_llmperf.config.fields import (
    Duration,
    Expected,
    Flag,
    Limits,
    Number,
    Seed,
    Share,
    Size,
    Text,
    plain_json_problem,
    problems,
)
from pytest_llmperf.units import shown

#: Keys of the ``llm`` section that change the engine's speed, but not what it computes.
TUNABLE = (
    "n_gpu_layers",
    "n_threads",
    "n_threads_batch",
    "flash_attn",
    "n_batch",
    "n_ubatch",
    "type_k",
    "type_v",
    "n_ctx",
    "use_mmap",
    "use_mlock",
    "offload_kqv",
    "split_mode",
    "main_gpu",
    "tensor_split",
)
#: Prefix of names of arguments in ``llm.extra``.
EXTRA = "extra."
#: Maximum number of values for one key; more would be an enumeration, not a search.
MAX_CHOICES = 64
_RANGE = "a list of values, {min, max, step} or {min, max, log: true}"
_Models = Annotated[list[Text], Expected("a list of models, each as llm.model_path")]


class TuneConfig(BaseModel):
    """What ``llmperf tune`` may change, and what its outcome must keep to."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    space: Annotated[dict[str, Any], Expected(f"a mapping of llm keys, each to {_RANGE}")] = Field(
        default_factory=dict,
        description=(
            "Values to try, by llm key, such as n_batch or extra.NAME: a list, {min, max, step} or "
            "{min, max, log: true}, which doubles; empty: the keys that matter on this machine."
        ),
    )
    models: _Models | None = Field(
        default=None,
        description=(
            "Other models or quantizations to try, each as llm.model_path; null: the model's other "
            "quantizations in its folder that lose little, Q4_K_S to Q8_0, by their names."
        ),
    )
    targets: Limits = Field(
        default_factory=dict,
        description="Limits to meet; empty: perf.targets, and those of the tests' markers.",
    )
    max_memory: Size | None = Field(
        default=None, description="Maximum memory of the engine; null: what is free."
    )
    max_kl: Number | None = Field(
        default=None,
        description="Largest mean KL divergence from today's answers, in nats; null: not checked.",
    )
    min_gain: Share = Field(
        default=0.05, description="The improvement that must be found and proven."
    )
    budget: Duration = Field(
        default=1800.0, description="Time limit for the search and the proof, loading included."
    )
    seed: Seed = Field(default=42, description="Seed of the proposals.")

    @field_validator("space", mode="before")
    @classmethod
    def _space_has_llm_values(cls, space: Any) -> Any:
        if not isinstance(space, dict):
            return space
        choices, wrong = _read_space(space)
        if wrong:
            raise problems("space", wrong)
        return choices


class _Range(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    min: int
    max: int
    step: Annotated[int, Field(ge=1)] | None = None
    log: Flag = False


def choices_of(given: Any) -> list[Any]:
    """Return the values to try for an entry of ``tune.space``.

    Raises:
        ValueError: the entry is not valid; the message says what is expected.
    """
    if isinstance(given, list):
        if not given:
            raise ValueError("an empty list leaves no value to try; name one or more")
        if any(choice in given[:place] for place, choice in enumerate(given)):
            raise ValueError("names a value twice")
        choices = given
    else:
        try:
            choices = _values(_Range.model_validate(given))
        except ValidationError:
            raise ValueError(f"expected {_RANGE}, got {shown(given)}") from None
    if len(choices) > MAX_CHOICES:
        raise ValueError(f"{len(choices)} values; at most {MAX_CHOICES}, so take a larger step")
    return choices


def _values(given: _Range) -> list[int]:
    if given.min > given.max:
        raise ValueError(f"min ({given.min}) must not be above max ({given.max})")
    if (given.step is None) != given.log:
        raise ValueError("expected either step or log: true, which doubles the value each time")
    if given.step is not None:
        return list(range(given.min, given.max + 1, given.step))
    if given.min < 1:
        raise ValueError(f"with log: true, min must be 1 or more, got {given.min}")
    values = [given.min]
    while values[-1] * 2 <= given.max:
        values.append(values[-1] * 2)
    return values


def _read_space(
    space: Mapping[str, Any],
) -> tuple[dict[str, list[Any]], list[tuple[str | tuple[str, ...], str, Any]]]:
    """Return the values to try by key, and the problems: (key, message, value)."""
    from pytest_llmperf.config.llm_section import LLM_FIELDS

    choices: dict[str, list[Any]] = {}
    wrong: list[tuple[str | tuple[str, ...], str, Any]] = []
    for name, given in _flat(space).items():
        key = str(name)
        is_extra = key.startswith(EXTRA) and key != EXTRA
        if key not in TUNABLE and not is_extra:
            wrong.append((key, _refused(key, LLM_FIELDS), given))
            continue
        try:
            values = choices_of(given)
        except ValueError as error:
            wrong.append((key, str(error), given))
            continue
        if is_extra:
            # The engine's kind decides whether they are valid; the search checks before it begins.
            choices[key] = values
            wrong += [(key, text, item) for item in values if (text := plain_json_problem(item))]
            continue
        field = LLM_FIELDS[key]
        strict = ConfigDict(strict=True)
        value_of: Any = (field.annotation, field)
        choice: Any = create_model(key, __config__=strict, value=value_of)
        words = next((hint.words for hint in _annotations(field) if isinstance(hint, Expected)), "")
        choices[key] = []
        for value in values:
            try:
                choices[key].append(choice.model_validate({"value": value}).value)
            except ValidationError:
                text = f"expected {words or 'another value'}, got {shown(value)}"
                wrong.append((key, text, value))
    return choices, wrong


def _flat(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the space with ``extra: {NAME: ...}``, the form of ``--set``, as ``extra.NAME``."""
    flat = dict(space)
    extra = flat.pop("extra", None)
    if not isinstance(extra, dict):
        return dict(space)
    return {**flat, **{f"{EXTRA}{name}": given for name, given in extra.items()}}


def _annotations(field: FieldInfo) -> list[Any]:
    members = getattr(field.annotation, "__args__", ())
    return [*field.metadata, *(hint for m in members for hint in getattr(m, "__metadata__", ()))]


def _refused(key: str, known: Mapping[str, FieldInfo]) -> str:
    if key == "model_path":
        return "models are no settings; list them in tune.models"
    if key in known:
        return f"not a setting to tune (known: {', '.join(TUNABLE)}, extra.NAME)"
    import difflib

    near = difflib.get_close_matches(key.lower().replace("-", "_"), TUNABLE, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(TUNABLE)})"
    return f"unknown key of the llm section{hint}"
