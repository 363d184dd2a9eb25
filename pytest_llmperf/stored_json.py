"""Stored JSON as frozen dataclasses, read and written by pydantic, with readable errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, AllowInfNan, Strict, TypeAdapter, ValidationError
from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema, ErrorDetails

T = TypeVar("T")

#: Types without conversions: ``"1"`` and ``1.0`` are not integers, 0 is not false.
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]

#: Metadata of a field that may be missing in files: its default is used.
MAY_LACK: Mapping[str, str] = {"stored": "may lack"}
#: The same for a field whose default is not written.
LEFT_OUT: Mapping[str, str] = {"stored": "left out"}
#: Metadata of a field that is never in a file.
NOT_STORED: Mapping[str, str] = {"stored": "never"}

_LONGEST_SHOWN = 60
#: Type of pydantic's error -> the expected kind of value.
_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "finite_number": "a number",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "a list",
    "string_type": "a string",
    "string_unicode": "Unicode text",
    "tuple_type": "a list",
}


class ShapeError(ValueError):
    """An item is missing or of the wrong kind; str() names it and both kinds."""


class ItemError(ValueError):
    """A problem that a check finds in an item.

    Args:
        what: the problem, without the item's path.
        path: keys and indices from the checked value to the item.
    """

    def __init__(self, what: str, *path: str | int) -> None:
        super().__init__(what)
        self.path = path


def unexpected(expected: str, value: object, *path: str | int) -> ItemError:
    """Build the error for an item that is not as expected."""
    shown = repr(list(value) if isinstance(value, tuple) else value)
    if len(shown) > _LONGEST_SHOWN:
        shown = shown[: _LONGEST_SHOWN - 3] + "..."
    return ItemError(f"expected {expected}, got {shown}", *path)


@contextmanager
def inside(*path: str | int) -> Iterator[None]:
    """Prefix the path of errors raised in the block."""
    try:
        yield
    except ItemError as error:
        raise ItemError(str(error), *path, *error.path) from None


def expect(expected: str, fits: Callable[[Any], object]) -> AfterValidator:
    """Annotate a type with a condition, and with its description for errors."""

    def check(value: T) -> T:
        if not fits(value):
            raise unexpected(expected, value)
        return value

    return AfterValidator(check)


#: Larger numbers are no measurement, and charts would overflow.
LARGEST_NUMBER = 1e100
Bounded = Annotated[Number, expect("a number up to 1e+100", lambda x: abs(x) <= LARGEST_NUMBER)]
Positive = Annotated[Whole, expect("a number above 0", lambda x: x > 0)]
Name = Annotated[str, expect("a name", bool)]


class Stored:
    """Base of stored dataclasses: a JSON object with a key for every field.

    Only fields with the metadata above may be missing, even with a default: a damaged file
    must not count as complete. Keys without a field are ignored.
    """

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return pydantic's schema of the dataclass, with these rules around it."""
        schema = core_schema.no_info_before_validator_function(
            partial(_complete, source), handler(source)
        )
        schema["serialization"] = core_schema.wrap_serializer_function_ser_schema(_written)
        return schema


def read(kind: type[T], data: Any) -> T:
    """Build a ``kind``, a dataclass of ``Stored``, from parsed JSON.

    Raises:
        ShapeError: an item is missing or wrong.
    """
    try:
        value: T = _adapter(cast(Any, kind)).validate_python(data)
    except ValidationError as error:
        raise ShapeError(_sentence(error.errors(include_url=False)[0])) from None
    return value


def dump(value: Stored) -> dict[str, Any]:
    """Convert a value to the plain types that ``read`` takes, in the order of the fields."""
    data: dict[str, Any] = _adapter(cast(Any, type(value))).dump_python(value, warnings=False)
    return data


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _complete(kind: type[Any], data: Any) -> Any:
    """Check that no key is missing, and drop fields that are never in a file."""
    if not isinstance(data, dict):
        return data
    rules = {field.name: _rule(field) for field in fields(kind)}
    for name, rule in rules.items():
        if rule is None and name not in data:
            raise ItemError("missing", name)
    return {name: item for name, item in data.items() if rules.get(name) != NOT_STORED["stored"]}


def _written(value: Any, inner: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    data = inner(value)
    for field in fields(value):
        rule = _rule(field)
        if rule == NOT_STORED["stored"] or (
            rule == LEFT_OUT["stored"] and getattr(value, field.name) == _default(field)
        ):
            del data[field.name]
    return data


def _rule(field: Field[Any]) -> str | None:
    return field.metadata.get("stored")


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _sentence(error: ErrorDetails) -> str:
    """Convert an error of pydantic to a readable sentence."""
    where, cause = error["loc"], error.get("ctx", {})
    problem = cause.get("error")
    if not isinstance(problem, ItemError):
        kind = error["type"]
        expected = _EXPECTED.get(kind) or cause.get("expected", "").replace("'", "")
        if kind == "missing":
            problem = ItemError("missing")
        elif expected:
            problem = unexpected(expected, error["input"])
        else:
            problem = ItemError(str(cause.get("error", error["msg"])))
    return f"{_path((*where, *problem.path)) or 'the file'}: {problem}"


def _path(parts: tuple[str | int, ...]) -> str:
    """Format a path as ``tests['tests/test_a.py::test'].metrics.first_token.samples[0][1]``."""
    path = ""
    for part in parts:
        plain = isinstance(part, str) and part.isidentifier()
        path += f".{part}" if plain else f"[{part!r}]"
    return path.removeprefix(".")
