"""Fitness findings of a session, one per check: text, severity, processes and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_llmperf.fitness_checks import CHECKS, disturbs
from pytest_llmperf.machine.fitness import FitnessFinding, worst_first
from pytest_llmperf.measure.samples import TestSamples


@dataclass(frozen=True)
class FitnessEntry(FitnessFinding):
    """The worst finding of one check.

    Attributes:
        processes: the engine processes in which it was found, numbered from 0; empty if it
            applies to all, such as a setting.
        tests: the tests in which it was found; empty if the entry belongs to a single test.
    """

    processes: tuple[int, ...] = ()
    tests: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Its origin: the machine, the measurement or the configuration."""
        check = CHECKS.get(self.name)
        return check.origin if check is not None else "machine"

    def to_json(self, where: str) -> dict[str, Any]:
        """Return plain JSON types; ``where`` is ``processes`` or ``tests``."""
        return {
            "name": self.name,
            "severity": self.severity,
            "text": self.text,
            "evidence": dict(self.evidence),
            where: list(getattr(self, where)),
        }


def fitness_entries_of(
    samples: TestSamples, configured: Iterable[FitnessFinding] = ()
) -> tuple[FitnessEntry, ...]:
    """Return the findings on a test's measurement and configuration, worst first."""
    entries = [
        _entry(finding, (sample.process,))
        for sample in (*samples.processes, *samples.voided)
        for finding in sample.findings
    ]
    entries += [_entry(finding, ()) for finding in configured]
    return _merged(entries)


def session_entries(tests: Mapping[str, Iterable[FitnessEntry]]) -> tuple[FitnessEntry, ...]:
    """Return the findings of all tests (by node id) together, worst first."""
    return _merged(
        replace(entry, tests=(nodeid,)) for nodeid, entries in tests.items() for entry in entries
    )


def merged_sessions(sessions: Iterable[Iterable[FitnessEntry]]) -> tuple[FitnessEntry, ...]:
    """Return the findings of several measure stages as those of one session."""
    return _merged(entry for entries in sessions for entry in entries)


def machine_lines(entries: Iterable[FitnessEntry]) -> tuple[str, ...]:
    """Return the machine's disturbances to show before any speed, one line each."""
    return tuple(str(entry) for entry in entries if disturbs(entry.name, entry.severity))


def _entry(finding: FitnessFinding, processes: tuple[int, ...]) -> FitnessEntry:
    return FitnessEntry(
        finding.name, finding.severity, finding.text, dict(finding.evidence), processes
    )


def _merged(entries: Iterable[FitnessEntry]) -> tuple[FitnessEntry, ...]:
    """Keep the worst entry of each check; of equal ones the first, as verdicts do."""
    by_name: dict[str, FitnessEntry] = {}
    for entry in entries:
        known = by_name.get(entry.name)
        if known is None:
            by_name[entry.name] = entry
            continue
        worse = entry.rank > known.rank
        by_name[entry.name] = replace(
            entry if worse else known,
            processes=tuple(sorted({*known.processes, *entry.processes})),
            tests=tuple(dict.fromkeys([*known.tests, *entry.tests])),
        )
    return tuple(worst_first(by_name.values()))
