"""The base of the sections of ``config.yaml``: no unknown keys, no conversions, no changes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the configuration, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
