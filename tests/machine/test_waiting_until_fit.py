"""Waiting for a busy machine: for how long, for what, and how it is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from pytest_llmperf.fitness_checks import CHECKS, SEVERITIES, configured_severity
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities
from pytest_llmperf.session.machine_watch import FitWait, worth_waiting_for

BUSY = FitnessFinding("busy_cores", "invalid", "process 7 (cc) used 1.9 of 2 cores while measuring")
WARM = FitnessFinding("busy_cores", "warn", "process 7 (cc) used 0.2 of 2 cores while measuring")
CUT = FitnessFinding("cut_short", "invalid", "generation cut short")


def looks(*found: Sequence[FitnessFinding]) -> Callable[[], Sequence[FitnessFinding]]:
    """Return a look at the machine that yields these findings in turn, and none after them."""
    left = list(found)

    def look() -> Sequence[FitnessFinding]:
        time.sleep(0.01)
        return left.pop(0) if left else []

    return look


def test_a_machine_that_recovers_is_waited_for() -> None:
    said: list[str] = []
    wait = FitWait(60.0, said.append)
    spent = wait.wait(looks([BUSY], [BUSY]))
    assert said == [
        "waiting up to 1 min for the machine to become quiet: "
        "process 7 (cc) used 1.9 of 2 cores (busy_cores)"
    ]
    assert 0 < wait.seconds <= spent < 60
    assert wait.summary() == "waited 1 s for the machine to become quiet"


def test_a_fit_machine_is_not_waited_for() -> None:
    said: list[str] = []
    wait = FitWait(60.0, said.append)
    wait.wait(looks([WARM]))
    assert (said, wait.seconds, wait.summary()) == ([], 0.0, "")


def test_what_waits_is_reported_once_in_a_session() -> None:
    said: list[str] = []
    wait = FitWait(60.0, said.append)
    wait.wait(looks([BUSY]))
    wait.wait(looks([BUSY]))
    assert len(said) == 1


def test_the_time_is_for_the_whole_session() -> None:
    said: list[str] = []
    wait = FitWait(0.05, said.append)
    wait.wait(looks(*[[BUSY]] * 1000))
    assert said[1] == (
        "the machine is still busy or hot, measuring anyway: "
        "process 7 (cc) used 1.9 of 2 cores (busy_cores)"
    )
    assert wait.summary().endswith(
        "it was still busy or hot: process 7 (cc) used 1.9 of 2 cores (busy_cores)"
    )
    assert wait.wait(lambda: pytest.fail("looked again")) == 0.0


def test_without_time_to_wait_nobody_looks() -> None:
    assert FitWait(0.0, pytest.fail).wait(lambda: pytest.fail("looked")) == 0.0


def test_an_interrupted_wait_ends_at_once() -> None:
    def interrupted() -> Sequence[FitnessFinding]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FitWait(60.0, pytest.fail).wait(interrupted)


def test_only_what_may_pass_by_itself_is_waited_for() -> None:
    assert worth_waiting_for([BUSY, WARM, CUT]) == [BUSY]


@pytest.mark.parametrize(
    ("name", "found", "configured", "severity"),
    [
        ("busy_cores", "invalid", "warn", "warn"),
        ("busy_cores", "warn", "note", "note"),
        ("busy_cores", "warn", "invalid", "warn"),
        ("gpu_power_cap", "note", "invalid", "invalid"),
        ("busy_gpu", "note", "warn", "note"),
        ("busy_cores", "invalid", None, "invalid"),
    ],
)
def test_a_configured_severity_is_the_most_severe_it_gets(
    name: str, found: str, configured: str | None, severity: str
) -> None:
    asked = {} if configured is None else {name: configured}
    assert configured_severity(name, found, asked) == severity  # type: ignore[arg-type]


def test_findings_are_ordered_by_what_is_configured() -> None:
    other = FitnessFinding("swapping", "invalid", "memory is short")
    findings = with_severities([BUSY, other], {"busy_cores": "note"})
    assert [(finding.name, finding.severity) for finding in findings] == [
        ("swapping", "invalid"),
        ("busy_cores", "note"),
    ]


def test_what_the_configuration_did_is_never_invalid() -> None:
    assert {check.severity for check in CHECKS.values()} <= set(SEVERITIES)
    assert not [
        check.name
        for check in CHECKS.values()
        if check.origin == "configuration" and check.severity == "invalid"
    ]
