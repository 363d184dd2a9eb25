"""Waits for a busy or hot machine to recover, within one time limit per session."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.units import format_duration

#: Observes the machine for a moment and returns its problems.
Look = Callable[[], Sequence[FitnessFinding]]


def worth_waiting_for(findings: Sequence[FitnessFinding]) -> list[FitnessFinding]:
    """Return the findings worth waiting for: they would void a sample, but may pass."""
    return [
        finding
        for finding in findings
        if finding.severity == "invalid" and CHECKS[finding.name].doing == "machine"
    ]


class FitWait:
    """Waits for the machine, and keeps account of the session's waiting time.

    Args:
        total: maximum seconds to wait in all; 0 never checks.
        say: shows the reason for waiting, and later if it was in vain.
    """

    def __init__(self, total: float = 0.0, say: Callable[[str], None] = lambda _: None) -> None:
        self._total = total
        self._show = say
        #: Seconds waited so far.
        self.seconds = 0.0
        #: The findings that remained when the time was used up.
        self.unfit: tuple[FitnessFinding, ...] = ()
        self._said = False

    def wait(self, look: Look) -> float:
        """Wait until the machine is fit or the time is used up; return the seconds it took.

        The first observation takes a moment in any case; only the rest counts as waiting.
        """
        if self.seconds >= self._total:
            return 0.0
        began = time.monotonic()
        found = worth_waiting_for(look())
        first = time.monotonic()
        before = self.seconds
        while found and self.seconds < self._total:
            self._say(found)
            found = worth_waiting_for(look())
            self.seconds = before + (time.monotonic() - first)
        if found:
            self.unfit = tuple(found)
            self._show(f"the machine is still busy or hot, measuring anyway: {_words(found)}")
        return time.monotonic() - began

    def summary(self) -> str:
        """Return how long the session waited; empty if it did not."""
        if not self.seconds:
            return ""
        text = (
            f"waited {format_duration(max(round(self.seconds), 1))} for the machine to become quiet"
        )
        return f"{text}; it was still busy or hot: {_words(self.unfit)}" if self.unfit else text

    def _say(self, found: Sequence[FitnessFinding]) -> None:
        if not self._said:
            self._said = True
            self._show(
                f"waiting up to {format_duration(self._total)} for the machine to become quiet: "
                f"{_words(found)}"
            )


def text_outside_measuring(finding: FitnessFinding, when: str) -> str:
    """Return a finding's text for a window in which nothing was measured.

    The texts of checks say ``while measuring``, or ``while decoding``.
    """
    return re.sub(" while (?:measuring|decoding)", when, str(finding))


def _words(found: Sequence[FitnessFinding]) -> str:
    return "; ".join(text_outside_measuring(finding, "") for finding in found)
