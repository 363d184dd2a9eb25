"""The request that ``llmperf calibrate`` passes to the pytest session that it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.baselines.calibrations import FOLDER
from pytest_llmperf.gate.words import percent


class CalibrationRequestError(Exception):
    """A file is not a valid request; ``str()`` is a complete message."""


@dataclass(frozen=True)
class CalibrationRequest:
    """The options of ``llmperf calibrate``.

    Attributes:
        sessions: number of sessions to run.
        slowdown: planted in decode, a fraction; 0 plants nothing.
        share: share of the requests that are slowed.
        store: whether to keep the outcome beside the baselines.
        json: file to write the outcome to as well, or None.
    """

    sessions: int
    slowdown: float = 0.0
    share: float = 1.0
    store: bool = True
    json: str | None = None

    @classmethod
    def read(cls, path: Path) -> CalibrationRequest:
        """Read the request that the command line wrote for this session.

        Raises:
            CalibrationRequestError: the file is not such a request.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CalibrationRequestError(f"{path}: {error}; use: llmperf calibrate") from None

    def folder(self, machine_folder: Path) -> Path | None:
        """Return the folder within a machine's folder for the outcome; None if it is not stored."""
        return machine_folder / FOLDER if self.store else None

    @property
    def plant(self) -> str:
        """The planted slowdown in words; empty for none."""
        if not self.slowdown:
            return ""
        part = "" if self.share == 1 else f" in {percent(self.share)} of the requests"
        return f"a decode slower by {percent(self.slowdown)}{part}"
