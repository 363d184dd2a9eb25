"""Validation errors for single keys, found by a section's own checks, in pydantic's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


def problems(
    title: str,
    found: Sequence[tuple[str | tuple[str, ...], str, Any]],
    section: tuple[str, ...] = (),
) -> ValidationError:
    """Return one error for all ``found``: (key or path in the section, message, value)."""
    return ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(
                # The message is passed as a value: braces in it must stay as they are.
                type=PydanticCustomError("llmperf", "{text}", {"text": text}),
                loc=(*section, *((key,) if isinstance(key, str) else key)),
                input=value,
            )
            for key, text, value in found
        ],
    )
