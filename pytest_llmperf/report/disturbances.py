"""Disturbances of the machine: a session lists them once, and its tests only name the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_llmperf.fitness_checks import disturbs
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class _Finding(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def severity(self) -> str: ...


def listed_checks(findings: Iterable[_Finding]) -> tuple[str, ...]:
    """Return the names of checks whose findings the session lists first, as disturbances."""
    return tuple(finding.name for finding in findings if disturbs(finding.name, finding.severity))


def disturbed_words(checks: Collection[str]) -> str:
    """Name the checks that found a disturbance: ``the machine was disturbed (busy_cores)``."""
    return f"the machine was disturbed ({listed(list(checks))})"


def brief_claim(kind: VerdictKind, claim: str, checks: Collection[str]) -> str:
    """Shorten the claim of an invalid test to the checks that the session's list explains.

    Args:
        kind: the kind of verdict.
        claim: its claim, which ends with the names of checks in parentheses.
        checks: names of the checks whose findings the session lists.
    """
    named = [name for name in checks if f"({name})" in claim]
    return disturbed_words(named) if kind is VerdictKind.INVALID and named else claim
