"""The JSON Schema of ``config.yaml``, for completion and checks in editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from pytest_llmperf.config.fields import allowed_severities
from pytest_llmperf.config.llm_section import AnyLlmConfig, AppConfig, LlamaCppConfig, ServerConfig
from pytest_llmperf.config.schema import Config
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.metrics import METRICS, Unit

#: The generated schema as the package ships it.
SHIPPED = Path(__file__).with_name("config.schema.json")

#: The schemas of the ``llm`` section: ``engine`` decides which schema applies.
_ENGINES = (LlamaCppConfig, AppConfig, ServerConfig, AnyLlmConfig)

_LIMIT: dict[Unit, tuple[str, str]] = {
    Unit.TOKENS_PER_SECOND: (r"^\d+\.?\d*( ?(tok/s|tokens/s|tokens/sec|t/s))?$", "20 tok/s"),
    Unit.PER_SECOND: (r"^\d+\.?\d*( ?/(s|min))?$", "4/s"),
    Unit.SECONDS: (r"^\d+\.?\d* ?(ns|us|µs|ms|s|m|min|h)$", "500ms"),
    Unit.BYTES: (r"^\d+\.?\d* ?([kKMGT]?B|[KMGT]iB)$", "8GiB"),
    Unit.JOULES: (r"^\d+\.?\d* ?[mk]?J$", "0.5J"),
    Unit.WATTS: (r"^\d+\.?\d* ?[mk]?W$", "350W"),
    Unit.RATIO: (r"^\d+\.?\d* ?%$", "5%"),
}


def build_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema draft 2020-12) as plain JSON types."""
    schema: dict[str, Any] = _without_titles(Config.model_json_schema(mode="validation"))
    _, engines = models_json_schema([(config, "validation") for config in _ENGINES])
    schema["$defs"] = {**_without_titles(engines["$defs"]), **schema["$defs"]}
    schema["properties"]["llm"] = {
        "description": schema["properties"]["llm"]["description"],
        "oneOf": [{"$ref": f"#/$defs/{config.__name__}"} for config in _ENGINES],
    }
    _of_packages(schema["$defs"][AnyLlmConfig.__name__])
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "pytest-llmperf configuration"
    sections = schema["$defs"]
    for section in ("PerfConfig", "TuneConfig"):
        _name_metrics(sections[section]["properties"]["targets"])
    fitness = sections["PerfConfig"]["properties"]["fitness"]
    fitness["additionalProperties"] = False
    fitness["properties"] = {
        check.name: {
            "description": f"{check.meaning} (default: {check.severity})",
            "enum": [*allowed_severities(check), None],
        }
        for check in CHECKS.values()
    }
    # A section in which every key is commented out is null.
    for key, reference in schema["properties"].items():
        description = reference.pop("description", "")
        schema["properties"][key] = {
            "description": description,
            "anyOf": [reference, {"type": "null"}],
        }
    return schema


def _of_packages(section: dict[str, Any]) -> None:
    """Restrict a schema to engines that other packages provide; it has to name such an engine."""
    own = [config.model_fields["engine"] for config in _ENGINES if config is not AnyLlmConfig]
    names = [name for field in own for name in get_args(field.annotation)]
    engine = section["properties"]["engine"]
    del engine["default"]
    engine["not"] = {"enum": names}
    section["required"] = ["engine"]


def _name_metrics(targets: dict[str, Any]) -> None:
    """Offer every metric as a key of a mapping of limits."""
    targets["additionalProperties"] = False
    targets["properties"] = {}
    for metric in METRICS.values():
        pattern, example = _LIMIT[metric.unit]
        targets["properties"][metric.name] = {
            "description": f"{metric.limit_kind} {metric.label}: {metric.formula}",
            "examples": [example],
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": pattern},
                {"type": "null"},
            ],
        }


def schema_text() -> str:
    """Return the schema as the text of the shipped file."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(node: Any) -> Any:
    """Return ``node`` without pydantic's made-up titles, which editors show as noise."""
    if isinstance(node, dict):
        return {
            key: _without_titles(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    return node
