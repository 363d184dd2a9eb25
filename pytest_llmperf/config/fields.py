"""Types and checks of configuration values, with messages about wrong values.

Checks that a type can't express return problems: (key or path in the section, message, value).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from pytest_llmperf.config.yaml_file import YesOrNo, as_flag
from pytest_llmperf.engine_kinds import EngineKind
from pytest_llmperf.fitness_checks import CHECKS, SEVERITIES, FitnessCheck
from pytest_llmperf.metric_types import Unit
from pytest_llmperf.metrics import UnknownMetricError, get_metric
from pytest_llmperf.units import (
    ToleranceSetting,
    UnitError,
    parse_duration,
    parse_quantity,
    parse_tolerance,
    parse_tolerance_setting,
    shown,
)


@dataclass(frozen=True)
class Expected:
    """Description of a valid value, in words that follow "expected"."""

    words: str


_NUMBER = r"\d+\.?\d*"

#: The largest of the engine's 32-bit integers.
_MAX = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=_MAX), Expected("an integer >= 1")]
Index = Annotated[int, Field(ge=0, le=_MAX), Expected("an integer >= 0")]
Layers = Annotated[int, Field(ge=-1, le=_MAX), Expected("an integer >= -1 (-1: all layers)")]
Iterations = Annotated[int, Field(ge=3, le=25), Expected("an integer from 3 to 25")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1), Expected("an integer from 0 to 4294967295")]
Flag = Annotated[bool, BeforeValidator(as_flag), Expected("true or false")]
Text = Annotated[str, Field(min_length=1), Expected("text")]
Threads = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=_MAX)], Expected("auto or an integer >= 1")
]
Shares = Annotated[
    list[Annotated[float, Field(ge=0, allow_inf_nan=False)]],
    Field(min_length=1),
    Expected("a list of numbers >= 0, one per device"),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    Expected("a duration above 0 such as 500ms, 5s"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": rf"^{_NUMBER} ?(ns|us|µs|ms|s|m|min|h)$"},
            ]
        }
    ),
]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False), Expected("a number above 0")]
Size = Annotated[
    float,
    BeforeValidator(lambda value: parse_quantity(value, Unit.BYTES)),
    Field(gt=0),
    Expected("a size above 0 such as 8GiB"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": rf"^{_NUMBER} ?([kKMGT]?B|[KMGT]iB)$"},
            ]
        }
    ),
]
_FRACTION_SCHEMAS: list[dict[str, Any]] = [
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "string", "pattern": rf"^{_NUMBER} ?%$"},
]
Share = Annotated[
    float,
    BeforeValidator(parse_tolerance),
    Expected("a percentage such as 5%"),
    WithJsonSchema({"anyOf": _FRACTION_SCHEMAS}),
]
Tolerance = Annotated[
    ToleranceSetting,
    BeforeValidator(parse_tolerance_setting),
    Expected("a percentage such as 5%, or auto"),
    WithJsonSchema({"anyOf": [{"const": "auto"}, *_FRACTION_SCHEMAS]}),
]
EngineName = Annotated[
    str,
    Field(min_length=1),
    Expected("the name of an engine, such as llama_cpp, app or server"),
]
Turns = Annotated[
    Literal["auto", "tokens", "iterations", "processes"],
    Expected("auto, tokens, iterations or processes"),
]
ClientProcesses = Annotated[int, Field(ge=1, le=64), Expected("an integer from 1 to 64")]
ServerApi = Annotated[Literal["chat", "completions"], Expected("chat or completions")]
PromptCache = Annotated[Literal["unique", "shared"], Expected("unique or shared")]
HeaderValues = Annotated[dict[str, str], Expected("a mapping of names of headers to text")]
HeaderVariables = Annotated[
    dict[str, str], Expected("a mapping of names of headers to names of environment variables")
]
SplitMode = Annotated[Literal["none", "layer", "row"], Expected("none, layer or row")]
CacheType = Annotated[
    Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"],
    Expected("f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl"),
]
#: Cache types of less than 16 bits.
QUANTIZED_CACHE_TYPES = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"})


def plain_json_problem(value: Any) -> str:
    """Return why ``value`` is not plain JSON, or ``""``."""
    if isinstance(value, YesOrNo):
        meant = "true" if as_flag(value) else "false"
        return f"{value} may be a word or {meant}; write {meant}, or put quotes around it"
    if value is None or isinstance(value, bool | int | str):
        return ""
    if isinstance(value, float):
        return "" if value - value == 0 else f"{value} is not a finite number"
    if isinstance(value, list):
        return next(filter(None, map(plain_json_problem, value)), "")
    if isinstance(value, dict):
        return next(filter(None, map(plain_json_problem, value.values())), "")
    return f"a {type(value).__name__} cannot be passed on; put quotes around it to make it text"


def problems(
    title: str,
    wrong: Sequence[tuple[str | tuple[str, ...], str, Any]],
    section: tuple[str, ...] = (),
) -> ValidationError:
    """Return one error for all that is ``wrong``: (key or path in the section, message, value)."""
    return ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(
                # The message is passed as a value: braces in it must stay as they are.
                type=PydanticCustomError("llmperf", "{text}", {"text": text}),
                loc=(*section, *((key,) if isinstance(key, str) else key)),
                input=value,
            )
            for key, text, value in wrong
        ],
    )


def _limits_of(given: Any) -> Any:
    """Return the limits by metric in base units; null resets the limit of a lower layer.

    Raises:
        ValidationError: a metric is unknown, or a limit is wrong.
    """
    if not isinstance(given, dict):
        return given
    limits: dict[str, float] = {}
    wrong: list[tuple[str | tuple[str, ...], str, Any]] = []
    for name, value in given.items():
        try:
            metric = get_metric(name)
            if value is None:
                continue
            limits[name] = parse_quantity(value, metric.unit)
            if limits[name] == 0:
                wrong.append((name, "expected a limit above 0, got 0", value))
        except (UnknownMetricError, UnitError) as error:
            wrong.append((name, str(error), value))
    if wrong:
        raise problems("targets", wrong)
    return limits


Limits = Annotated[
    dict[str, float], BeforeValidator(_limits_of), Expected("a mapping of metrics to limits")
]


def check_severities(
    given: Mapping[Any, Any],
) -> tuple[dict[str, str], list[tuple[str, str, Any]]]:
    """Return the severities by check, and the problems: (key, complete message, value).

    null resets the severity of a lower layer.
    """
    severities: dict[str, str] = {}
    wrong: list[tuple[str, str, Any]] = []
    for name, value in given.items():
        check = CHECKS.get(name) if isinstance(name, str) else None
        if check is None:
            wrong.append((str(name), _unknown_check(name), value))
        elif value is None:
            continue
        elif value not in allowed_severities(check):
            wrong.append((name, _refused_severity(check, value), value))
        else:
            severities[name] = value
    return severities, wrong


def allowed_severities(check: FitnessCheck) -> tuple[str, ...]:
    """Return the allowed severities of a check; the configuration's effects are always judged."""
    return tuple(s for s in SEVERITIES if s != "invalid" or check.origin != "configuration")


def _unknown_check(name: object) -> str:
    near = difflib.get_close_matches(str(name).lower().replace("-", "_"), CHECKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(CHECKS)})"
    return f"no fitness check of this name{hint}"


def _refused_severity(check: FitnessCheck, value: object) -> str:
    known = allowed_severities(check)
    words = " or ".join(known).replace(" or ", ", ", len(known) - 2)
    if value == "invalid":
        return (
            f"expected {words}, got 'invalid': an effect of the configuration is always judged, "
            "and named as the cause"
        )
    return f"expected {words}, got {shown(value)}"


def check_options(
    kind: EngineKind, extra: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[tuple[str, ...], str, Any]]]:
    """Return ``llm.extra`` with defaults, and its problems: (path in it, message, value).

    If the engine's kind has a pydantic model of its options, they are checked and completed with
    their defaults; otherwise they are passed as written.
    """
    if kind.options is None:
        return dict(extra), []
    try:
        options = kind.options.model_validate(dict(extra))
    except ValidationError as error:
        return dict(extra), [_refused_option(dict(item), kind.name) for item in error.errors()]
    return options.model_dump(mode="json"), []


def _refused_option(item: dict[str, Any], engine: str) -> tuple[tuple[str, ...], str, Any]:
    key, inside = tuple(map(str, item["loc"][:1])), ".".join(map(str, item["loc"][1:]))
    if item["type"] == "missing":
        return key, f"the {engine} engine needs {inside or 'it'}, and it is missing", None
    if item["type"] == "extra_forbidden" and not inside:
        return key, f"the {engine} engine takes no such option", item["input"]
    message = f"{inside}: {item['msg']}" if inside else str(item["msg"])
    return key, f"{message} (an option of the {engine} engine)", item["input"]
