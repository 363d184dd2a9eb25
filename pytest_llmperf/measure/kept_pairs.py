"""Pairs kept from earlier sessions of the same comparison, so that evidence accumulates."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from pytest_llmperf.measure.process_sample import BASE, ProcessSample, TurnSamples, metric_values
from pytest_llmperf.metrics import LARGEST
from pytest_llmperf.stored_json import (
    LEFT_OUT,
    Flag,
    Number,
    ShapeError,
    Stored,
    dump,
    expect,
    read,
)
from pytest_llmperf.text import count

#: Seconds after which a kept pair expires, because machines change.
KEPT_FOR = 30 * 24 * 3600.0
_LONGEST_SHOWN = 120

#: Raw durations, which may be 0.
_Seconds = Annotated[
    Number, expect("seconds that can have been measured", lambda value: 0 <= value <= LARGEST)
]


_Iteration = Annotated[dict[str, Number], AfterValidator(metric_values)]


@dataclass(frozen=True)
class _KeptHalf(Stored):
    """One process of a kept pair: the fields of a valid sample that a verdict needs."""

    arm: Literal["candidate", "base"]
    iterations: Annotated[tuple[_Iteration, ...], expect("at least one iteration", len)]
    pooled: dict[str, tuple[_Seconds, ...]]
    beside: Flag
    turns: TurnSamples | None = field(default=None, metadata=LEFT_OUT)
    disturbed: str = field(default="", metadata=LEFT_OUT)

    @classmethod
    def of(cls, sample: ProcessSample) -> _KeptHalf:
        """Return the kept fields of a sample."""
        arm: Literal["candidate", "base"] = "base" if sample.side == BASE else "candidate"
        return cls(
            arm,
            sample.iterations,
            sample.pooled,
            sample.in_iteration_turns,
            sample.turns,
            sample.disturbed,
        )

    def sample(self, pair: int) -> ProcessSample:
        """Return the sample as a half of pair number ``pair`` from an earlier session."""
        return ProcessSample(
            process=-1,
            iterations=self.iterations,
            side=self.arm,
            pair=pair,
            pooled=self.pooled,
            in_iteration_turns=self.beside,
            turns=self.turns,
            disturbed=self.disturbed,
        )


@dataclass(frozen=True)
class _KeptPair(Stored):
    """A line of a file: a pair's time and its two halves."""

    at: Number
    pair: Annotated[
        tuple[_KeptHalf, _KeptHalf],
        expect("one process of either side", lambda pair: pair[0].arm != pair[1].arm),
    ]


class KeptPairs:
    """Kept pairs in ``folder``, one file per comparison; write errors are ignored.

    A comparison is identified by the code, environment, settings and model of both sides,
    the workload, and the machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Messages about unusable lines of the loaded files.
        self.problems: list[str] = []

    def load(self, identity: Mapping[str, Any]) -> list[ProcessSample]:
        """Return the samples of every earlier pair, numbered from 0.

        Unusable lines are skipped and reported in ``problems``.
        """
        return self.read(self._file(identity))

    def read(self, file: Path) -> list[ProcessSample]:
        """Return the samples of every pair in a file, as ``load`` does."""
        samples: list[ProcessSample] = []
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            self._add_problem(file, f"can't be read ({reason.lower()}); its pairs do not count")
            return []
        unusable: dict[int, str] = {}
        for number, line in enumerate(lines, 1):
            # A killed session may leave a half-written line, which is skipped silently.
            with contextlib.suppress(ValueError, RecursionError):
                # NaN is kept as text, so that it is refused and shown as written in the file.
                data = json.loads(line, parse_constant=str)
                try:
                    kept = read(_KeptPair, data)
                except ShapeError as error:
                    unusable[number] = str(error)[:_LONGEST_SHOWN]
                    continue
                if abs(time.time() - kept.at) <= KEPT_FOR:
                    samples += [half.sample(len(samples) // 2) for half in kept.pair]
        if unusable:
            (first, why), *others = unusable.items()
            more = f", and {count(len(others), 'more line')}" if others else ""
            self._add_problem(file, f"line {first} can't be used ({why}){more}; not counted")
        return samples

    def _add_problem(self, file: Path, what: str) -> None:
        self.problems.append(f"{file}: {what}. To start this evidence again, remove the file")

    def add(self, identity: Mapping[str, Any], halves: Sequence[ProcessSample]) -> None:
        """Keep one valid pair."""
        # Starts on a new line, so that a truncated line before it does no damage.
        pair = [dump(_KeptHalf.of(half)) for half in halves]
        line = "\n" + json.dumps({"at": time.time(), "pair": pair}) + "\n"
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._file(identity), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)

    def sweep(self) -> None:
        """Remove files whose pairs have all expired."""
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if file.suffix == ".jsonl" and time.time() - file.stat().st_mtime > KEPT_FOR:
                    file.unlink()

    def _file(self, identity: Mapping[str, Any]) -> Path:
        text = json.dumps(identity, sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.jsonl"
