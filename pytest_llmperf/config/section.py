"""The base of the sections of ``config.yaml``: no unknown keys, no conversions, no changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

#: Values that do not go together: key or path in the section, message, value.
Problem = tuple[str | tuple[str, ...], str, Any]


class Section(BaseModel):
    """A section of the configuration, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Part(Section):
    """A part of a section, which may check how its values go together."""

    def conflicts(self) -> Iterator[Problem]:
        """Yield values that do not go together."""
        yield from ()
