"""Error messages for the invalid values of a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pytest_llmperf.config.fields import Expected
from pytest_llmperf.config.llm_section import (
    DEFAULT_ENGINE,
    LLM_FIELDS,
    llm_schema,
    misplaced_key_message,
)
from pytest_llmperf.config.schema import Config
from pytest_llmperf.config.yaml_file import KeyPath
from pytest_llmperf.units import shown


def error_messages(
    error: ValidationError, tree: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path of each invalid key of a ``Config``, and an error message about it.

    ``tree``: the values that were validated.
    """
    section = tree.get("llm")
    engine = section.get("engine", DEFAULT_ENGINE) if isinstance(section, Mapping) else ""
    seen = set()
    for item in error.errors(include_url=False):
        path, owner, field = _locate(item["loc"], llm_schema(engine))
        if path in seen:
            continue  # a union reports each of its members
        seen.add(path)
        if item["type"] == "missing" and field is not None:
            yield (path[0], "engine"), _missing(engine, path, field)
        else:
            yield path, _sentence(dict(item), path, owner, field, engine)


def _missing(engine: object, path: KeyPath, field: FieldInfo) -> str:
    """Return the message that an engine needs a key of its section."""
    examples = (
        field.json_schema_extra.get("examples")
        if isinstance(field.json_schema_extra, dict)
        else None
    )
    such = f", such as {examples[0]}" if isinstance(examples, list) and examples else ""
    what = str(field.description).rstrip(".")
    return f"engine {engine} needs {'.'.join(map(str, path))}: {what[0].lower()}{what[1:]}{such}"


def _locate(
    loc: KeyPath, llm: type[BaseModel]
) -> tuple[KeyPath, type[BaseModel], FieldInfo | None]:
    """Return the key's path within ``loc``, its section, and its field if there is one.

    Pydantic appends the members of a union to the path; they are left out. ``llm``: the schema
    of the section ``llm``.
    """
    owner: type[BaseModel] = Config
    for depth, part in enumerate(loc):
        field = owner.model_fields.get(str(part))
        if field is None:
            return loc[: depth + 1], owner, None
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            inside = 2 if _holds_items(field) else 1
            return loc[: depth + inside], owner, field
        owner = llm if loc[: depth + 1] == ("llm",) else field.annotation
    return loc, owner, None


def _holds_items(field: FieldInfo) -> bool:
    return isinstance(field.get_default(call_default_factory=True), dict)


def _sentence(
    item: dict[str, Any],
    path: KeyPath,
    owner: type[BaseModel],
    field: FieldInfo | None,
    engine: object,
) -> str:
    if item["type"] == "llmperf":
        return str(item["msg"])
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "extra_forbidden":
        key = str(path[-1])
        other = misplaced_key_message(key, str(engine)) if path[:-1] == ("llm",) else ""
        return other or f"unknown key{_nearest(key, owner)}"
    if field is None:
        return f"expected a mapping of keys, got {shown(item['input'])}"
    words = next((m.words for m in _metadata(field) if isinstance(m, Expected)), "another value")
    value = item["input"]
    if words == "text" and not isinstance(value, str) and value is not None:
        return f"expected {words}, got {shown(value)}; put quotes around it"
    return f"expected {words}, got {shown(value)}"


def _metadata(field: FieldInfo) -> Iterator[Any]:
    """Yield the field's annotations, those of an optional field's inner type included."""
    yield from field.metadata
    for member in getattr(field.annotation, "__args__", ()):
        yield from getattr(member, "__metadata__", ())


def _nearest(key: str, owner: type[BaseModel]) -> str:
    known = list(owner.model_fields)
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    elsewhere = [
        f"{section}.{key}"
        for section, info in Config.model_fields.items()
        if key in (LLM_FIELDS if section == "llm" else getattr(info.annotation, "model_fields", {}))
    ]
    if elsewhere:
        return f" here; did you mean {elsewhere[0]!r}?"
    return f" (known: {', '.join(known)})"
