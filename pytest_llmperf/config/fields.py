"""Types of configuration values, each with its description for error messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pytest_llmperf.config.yaml_values import YesOrNo, as_flag
from pytest_llmperf.units import parse_duration, parse_tolerance


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
Tolerance = Annotated[
    float,
    BeforeValidator(parse_tolerance),
    Expected("a percentage such as 5%"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                {"type": "string", "pattern": rf"^{_NUMBER} ?%$"},
            ]
        }
    ),
]
EngineName = Annotated[
    str,
    Field(min_length=1),
    Expected("the name of an engine, such as llama_cpp or app"),
    # Editors offer the built-in ones; others depend on the installed packages.
    WithJsonSchema({"anyOf": [{"enum": ["llama_cpp", "app"]}, {"type": "string", "minLength": 1}]}),
]
Turns = Annotated[
    Literal["auto", "iterations", "processes"], Expected("auto, iterations or processes")
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
