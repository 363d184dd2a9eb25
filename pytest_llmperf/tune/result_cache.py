"""Cache for the result of a search that proved a gain, to apply it without a new search."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf import __version__
from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.engine.installed import installed_build
from pytest_llmperf.stored_json import ShapeError, dump, read
from pytest_llmperf.tune.result import TuneResult

if TYPE_CHECKING:
    from pytest_llmperf.session.setup import EngineSetup


@dataclass(frozen=True)
class CachedResult:
    """A cached result, and the day of its search.

    Attributes:
        result: the result, which has a winner.
        date: ISO date, such as ``2026-11-28``.
    """

    result: TuneResult
    date: str


class ResultCache:
    """Cache file for the result of one command with one configuration.

    Args:
        setup: the configuration, its model and the engine's arguments.
        command: other inputs that determine the result: command arguments, texts of prompts.
        digest: digest of the configuration file.

    Raises:
        OSError: a file of the model can't be read.
    """

    def __init__(self, setup: EngineSetup, command: Sequence[str], digest: str) -> None:
        identity = [
            __version__,
            platform.node(),
            str(Path.cwd()),
            list(command),
            digest,
            setup.loaded.config.model_dump(mode="json"),
            setup.model_identity,
            installed_build(),
        ]
        text = json.dumps(identity, sort_keys=True, default=str)
        name = f"result-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        self._file = cache_dir(os.environ) / "tune" / name

    def load(self) -> CachedResult | None:
        """Return the result; None if there is none, or it can't be read."""
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            return CachedResult(read(TuneResult, stored["result"]), str(stored["date"]))
        except (OSError, ValueError, ShapeError, KeyError, TypeError):
            return None

    def save(self, result: TuneResult) -> None:
        """Cache a result that proved a gain; a folder that can't be written to is ignored.

        A later result without a proven gain deletes it, unless its search was interrupted.
        """
        if result.winner is None:
            if not result.interrupted:
                with suppress(OSError):
                    self._file.unlink(missing_ok=True)
            return
        stored = {"date": time.strftime("%Y-%m-%d"), "result": dump(result)}
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._file, json.dumps(stored))
