"""The base of the sections of ``config.yaml``: no unknown keys, no conversions, no changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

#: A problem with a section's values: key or path in the section, message, value.
Problem = tuple[str | tuple[str, ...], str, Any]


class Section(BaseModel):
    """A section of the configuration, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Part(Section):
    """A part of a section, which may check combinations of its values."""

    def conflicts(self) -> Iterator[Problem]:
        """Yield problems with combinations of values."""
        yield from ()
