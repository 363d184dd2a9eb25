"""Walk parsed JSON with a path in hand, so that every complaint names the item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONGEST_SHOWN = 60


class ShapeError(ValueError):
    """An item is missing or of the wrong kind; str() names it, what was expected and what it is."""


class Reader:
    """One item of parsed JSON and the path that leads to it."""

    def __init__(self, value: Any, path: str = "") -> None:
        self._value = value
        self._path = path

    def wrong(self, expected: str) -> ShapeError:
        """Return the error that says what this item should have been."""
        shown = repr(self._value)
        if len(shown) > _LONGEST_SHOWN:
            shown = shown[: _LONGEST_SHOWN - 3] + "..."
        return ShapeError(f"{self._path or 'the file'}: expected {expected}, got {shown}")

    def is_null(self) -> bool:
        """Whether the item is null."""
        return self._value is None

    def mapping(self) -> dict[str, Any]:
        """Return an object as it is."""
        if not isinstance(self._value, dict):
            raise self.wrong("an object")
        return self._value

    def __getitem__(self, key: str) -> Reader:
        path = f"{self._path}.{key}" if self._path else key
        if key not in self.mapping():
            raise ShapeError(f"{path}: missing")
        return Reader(self._value[key], path)

    def items(self) -> Iterator[tuple[str, Reader]]:
        """Walk an object whose keys are data."""
        for key, value in self.mapping().items():
            yield key, Reader(value, f"{self._path}[{key!r}]")

    def elements(self) -> Iterator[Reader]:
        """Walk a list."""
        if not isinstance(self._value, list):
            raise self.wrong("a list")
        for index, value in enumerate(self._value):
            yield Reader(value, f"{self._path}[{index}]")

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self._value, str):
            raise self.wrong("a string")
        return self._value

    def optional_text(self) -> str | None:
        """Return a string or None."""
        return None if self._value is None else self.text()

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self._value, bool):
            raise self.wrong("true or false")
        return self._value

    def integer(self) -> int:
        """Return an integer."""
        if not isinstance(self._value, int) or isinstance(self._value, bool):
            raise self.wrong("an integer")
        return self._value

    def optional_integer(self) -> int | None:
        """Return an integer or None."""
        return None if self._value is None else self.integer()

    def number(self) -> float:
        """Return a number; NaN and infinities are none that JSON has."""
        if not isinstance(self._value, (int, float)) or isinstance(self._value, bool):
            raise self.wrong("a number")
        return float(self._value)

    def positive(self) -> float:
        """Return a number above 0."""
        number = self.number()
        if number <= 0:
            raise self.wrong("a number above 0")
        return number

    def optional_number(self) -> float | None:
        """Return a number or None."""
        return None if self._value is None else self.number()

    def via(self, build: Callable[[Any], Any]) -> Any:
        """Return what ``build`` makes of the item; its ValueError gets this item's path."""
        try:
            return build(self._value)
        except ValueError as error:
            raise ShapeError(f"{self._path}: {error}") from None
