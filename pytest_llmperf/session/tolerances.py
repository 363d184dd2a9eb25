"""Gives the checks of a session the tolerances of stored calibrations (``tolerance: auto``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.tolerances import CalibratedTolerance, calibrated_tolerances
from pytest_llmperf.gate.words import listed, percent
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.units import DEFAULT_TOLERANCE

if TYPE_CHECKING:
    from pytest_llmperf.baselines.calibrations import StoredCalibration
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.session.facts import SessionFacts
    from pytest_llmperf.session.recorded import RecordedTest

#: Calibrated tolerances, by node id and metric.
Tolerances = Mapping[str, Mapping[str, CalibratedTolerance]]


def with_tolerances(
    facts: SessionFacts, tests: Sequence[RecordedTest], perf: PerfConfig
) -> SessionFacts:
    """Return the facts with the tolerances of all checks that ask for ``auto``.

    Notes are added for the checks that no calibration covers.
    """
    asking = {test.nodeid: _asking(test) for test in tests}
    if not any(asking.values()):
        return facts
    known = tolerances_of(tests, perf, facts.calibrations)
    tolerances = {
        nodeid: {name: known[nodeid][name] for name in names if name in known[nodeid]}
        for nodeid, names in asking.items()
    }
    return replace(facts, tolerances=tolerances, notes=(*facts.notes, *_notes(asking, tolerances)))


def tolerances_of(
    tests: Sequence[RecordedTest], perf: PerfConfig, calibrations: Sequence[StoredCalibration]
) -> dict[str, dict[str, CalibratedTolerance]]:
    """Return the tolerances of the tests' metrics that calibrations cover.

    Each test is taken to have its share of ``perf.budget``, or its own budget if that is less.

    Args:
        tests: all tests of the session.
        perf: the configuration.
        calibrations: A/A calibrations of this machine, model and settings, oldest first.
    """
    usable = [stored for stored in calibrations if stored.measured_like(perf)]
    share = perf.budget / max(len(tests), 1)
    return {
        test.nodeid: calibrated_tolerances(
            usable,
            test.nodeid,
            test.workload.hash,
            min(share, test.budget or perf.test_budget or share),
            test.identity,
        )
        for test in tests
    }


def calibrated(check: Check, known: Mapping[str, CalibratedTolerance], *, paired: bool) -> Check:
    """Return a check with its calibrated tolerance, if it asks for one and one is known.

    Args:
        check: the check.
        known: the tolerances of its test.
        paired: whether it is judged by pairs of two sides; else stored sessions judge it.
    """
    found = known.get(check.metric.name)
    if not check.auto or found is None:
        return check
    tolerance = found.tolerance if paired else found.against_stored
    return replace(check, tolerance=tolerance, calibrated=found)


def _asking(test: RecordedTest) -> list[str]:
    """Return the metrics of a test whose tolerance is to come from a calibration."""
    return [
        check.metric.name
        for check in test.checks
        if check.auto and check.gated and check.metric.compared
    ]


def _notes(asking: Mapping[str, Sequence[str]], found: Tolerances) -> Iterator[str]:
    default = percent(DEFAULT_TOLERANCE)
    if not any(found.values()):
        yield (
            f"tolerance auto is {default} here: no calibration of these tests on this machine, "
            "with this model and these settings, is stored; llmperf calibrate stores one"
        )
        return
    for nodeid, names in asking.items():
        missing = [name for name in names if name not in found[nodeid]]
        none = [name for name, known in found[nodeid].items() if known.holds is None]
        if missing:
            yield (
                f"{nodeid}: tolerance auto is {default} for {_labels(missing)}: no stored "
                "calibration knows it; llmperf calibrate stores one"
            )
        if none:
            yield (
                f"{nodeid}: tolerance auto is {default} for {_labels(none)}: the calibration "
                "found no tolerance that holds here"
            )


def _labels(names: Sequence[str]) -> str:
    return listed([get_metric(name).label for name in names])
