"""Options of ``llmperf tune``, also as a file for the pytest session that it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.stored_json import ShapeError, dump, read
from pytest_llmperf.tune.result import TuneResult

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import Phase


class TuneRequestError(Exception):
    """Raised if a file is not a valid request; ``str()`` is a complete message."""


@dataclass(frozen=True)
class TuneRequest:
    """The options of ``llmperf tune``.

    Attributes:
        phases: phases to work on.
        budget: seconds; None takes ``tune.budget``.
        study: name of the study; None derives it from model, workload, space and so on.
        storage: URL of a database; None keeps the study in a file in the cache folder.
        outcome: where to write the result for the command that started this session; or None.
    """

    phases: tuple[Phase, ...] = (1, 2, 3)
    budget: float | None = None
    study: str | None = None
    storage: str | None = None
    outcome: str | None = None

    @classmethod
    def read(cls, path: Path) -> TuneRequest:
        """Read the request that the command line wrote for this session.

        Raises:
            TuneRequestError: the file is not a valid request.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**data, "phases": tuple(data["phases"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TuneRequestError(f"{path}: {error}; use: llmperf tune") from None

    def write(self, path: Path) -> None:
        """Write the request to a file for a session to read."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def write_result(path: Path, result: TuneResult) -> None:
    """Write a result to a file atomically."""
    atomic_write(path, json.dumps(dump(result)))


def read_result(path: Path) -> TuneResult | None:
    """Read a result; None if the session wrote none."""
    try:
        return read(TuneResult, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ShapeError):
        return None
