"""Translates pydantic's errors into sentences about the user's keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pytest_llmperf.config.fields import Expected
from pytest_llmperf.config.schema import Config
from pytest_llmperf.units import shown


@dataclass(frozen=True)
class Complaint:
    """One invalid key: its path, and a sentence about it."""

    path: tuple[str | int, ...]
    text: str


def complaints(error: ValidationError) -> Iterator[Complaint]:
    """Yield one complaint per invalid key of a ``Config``."""
    seen = set()
    for item in error.errors(include_url=False):
        path, owner, field = _locate(item["loc"])
        if path in seen:
            continue  # a union reports each of its members
        seen.add(path)
        yield Complaint(path, _sentence(dict(item), path, owner, field))


def _locate(
    loc: tuple[str | int, ...],
) -> tuple[tuple[str | int, ...], type[BaseModel], FieldInfo | None]:
    """Return the key's path within ``loc``, its section, and its field if there is one.

    Pydantic appends the members of a union to the path; those are left out.
    """
    owner: type[BaseModel] = Config
    for depth, part in enumerate(loc):
        field = owner.model_fields.get(str(part))
        if field is None:
            return loc[: depth + 1], owner, None
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            inside = 2 if _holds_items(field) else 1
            return loc[: depth + inside], owner, field
        owner = field.annotation
    return loc, owner, None


def _holds_items(field: FieldInfo) -> bool:
    return isinstance(field.get_default(call_default_factory=True), dict)


def _sentence(
    item: dict[str, Any],
    path: tuple[str | int, ...],
    owner: type[BaseModel],
    field: FieldInfo | None,
) -> str:
    if item["type"] == "llmperf":
        return str(item["msg"])
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "extra_forbidden":
        return f"unknown key{_nearest(str(path[-1]), owner)}"
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
        if key in getattr(info.annotation, "model_fields", {})
    ]
    if elsewhere:
        return f" here; did you mean {elsewhere[0]!r}?"
    return f" (known: {', '.join(known)})"
