"""Runs a calibration: collects facts, runs sessions, stores the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.calibration.calibrator import Calibrator
from pytest_llmperf.session.run import free_device, session_facts

if TYPE_CHECKING:
    from pytest_llmperf.calibration.outcome import Calibration
    from pytest_llmperf.calibration.request import CalibrationRequest
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest


@dataclass
class CalibrationRun:
    """One calibration and its results so far.

    Attributes:
        context: the session's context.
        request: the options of ``llmperf calibrate``.
        outcome: summary of its sessions; None before the first.
        notes: places of stored files, one line each.
        problems: files that could not be stored, one line each.
    """

    context: SessionContext
    request: CalibrationRequest
    outcome: Calibration | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self, tests: Sequence[RecordedTest], engine: LlmEngine) -> Mapping[str, str]:
        """Judge the tests against themselves, as often as requested, and store the outcome.

        After an interrupt, ``outcome`` summarises the finished sessions; it is not stored.

        Returns:
            Why tests can't be measured, by node id.

        Raises:
            SESSION_ERRORS: nothing could be measured.
        """
        info, start_seconds = free_device(engine)
        with session_facts(self.context, info, tests, None, self.request.folder) as facts:
            calibrator = Calibrator(self.context, self.request, tests, facts, start_seconds)
            try:
                calibrator.run()
            finally:
                if calibrator.runs:
                    self.outcome = calibrator.outcome()
            self.notes, self.problems = calibrator.keep(self.outcome)
            return calibrator.errors
