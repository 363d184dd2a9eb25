"""What disturbed the machine: a session lists it once, and its tests name the checks only."""

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
    """Return the names of the checks whose findings the session lists before any speed."""
    return tuple(one.name for one in findings if disturbs(one.name, one.severity))


def disturbed_words(checks: Collection[str]) -> str:
    """Name the checks that found a disturbance: ``the machine was disturbed (busy_cores)``."""
    return f"the machine was disturbed ({listed(list(checks))})"


def brief_claim(kind: VerdictKind, claim: str, checks: Collection[str]) -> str:
    """Shorten the claim of an invalid test to the checks that the session's list explains.

    Args:
        kind: the verdict.
        claim: its claim, which ends with the names of the checks in parentheses.
        checks: those that the session lists.
    """
    named = [name for name in checks if f"({name})" in claim]
    return disturbed_words(named) if kind is VerdictKind.INVALID and named else claim
