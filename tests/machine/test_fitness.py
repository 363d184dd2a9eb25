"""Which load makes a machine unfit to judge, and what a reader sees."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.machine.fitness import FitnessFinding, HostNeeds, judge
from pytest_llmperf.machine.load import BusyReport, ForeignProcess

#: Two threads on two cores.
TWO = HostNeeds(threads=2, cores=2)


def report(**facts: Any) -> BusyReport:
    return BusyReport(**{"seconds": 10.0, "cpus": 2, "foreign_cores": 0.0, **facts})


def test_a_quiet_machine_has_no_findings() -> None:
    assert judge(report(foreign_cores=0.1), TWO) == []


def test_a_process_that_takes_the_engines_cores_makes_it_invalid() -> None:
    top = (ForeignProcess(4242, "stress", 1.9),)
    assert judge(report(foreign_cores=1.9, top=top), TWO) == [
        FitnessFinding(
            "busy_cores",
            "invalid",
            "process 4242 (stress) used 1.9 of 2 cores while measuring: "
            "2 engine threads had 0.1 cores left",
            {
                "seconds": 10.0,
                "foreign_cores": 1.9,
                "cores": 2,
                "needed_cores": 2,
                "processes": [{"pid": 4242, "name": "stress", "cores": 1.9}],
            },
        )
    ]


def test_one_thread_of_the_engine_is_counted_as_one() -> None:
    (finding,) = judge(report(cpus=1, foreign_cores=1.0), HostNeeds(threads=1, cores=1))
    assert "used 1.0 of 1 core while" in finding.text
    assert finding.text.endswith(": 1 engine thread had 0.0 cores left")


@pytest.mark.parametrize(
    ("cpus", "threads", "foreign", "severities"),
    [
        (2, 2, 0.14, []),
        (2, 2, 0.25, ["warn"]),
        (2, 2, 0.6, ["invalid"]),
        (2, 1, 0.6, ["warn"]),
        (16, 8, 1.0, []),
        (16, 8, 4.0, ["warn"]),
        (16, 8, 9.0, ["invalid"]),
        (1, 1, 0.12, []),
        # More threads than cores is the configuration's doing: two cores are needed, not eight.
        (2, 8, 0.0, []),
    ],
)
def test_load_is_judged_by_what_the_engine_needs(
    cpus: int, threads: int, foreign: float, severities: list[str]
) -> None:
    findings = judge(
        report(cpus=cpus, foreign_cores=foreign), HostNeeds(threads=threads, cores=cpus)
    )
    assert [finding.severity for finding in findings] == severities


def test_a_quota_on_a_large_machine_leaves_the_other_cores_to_others() -> None:
    assert judge(report(cpus=64, foreign_cores=5.0), TWO) == []


def test_several_processes_are_summed_and_the_largest_named() -> None:
    top = (ForeignProcess(7, "cc1plus", 0.9), ForeignProcess(8, "ld", 0.5))
    (finding,) = judge(report(foreign_cores=1.5, top=top), TWO)
    assert finding.text.startswith(
        "other processes used 1.5 of 2 cores while measuring "
        "(mainly process 7 (cc1plus) 0.9, process 8 (ld) 0.5)"
    )


def test_load_without_a_visible_process_says_so() -> None:
    (finding,) = judge(report(foreign_cores=1.5), TWO)
    assert "not visible from here" in finding.text


def test_a_window_too_short_to_measure_is_not_judged() -> None:
    assert judge(report(seconds=0.1, foreign_cores=2.0, steal_cores=1.0), TWO) == []


@pytest.mark.parametrize(("steal", "severities"), [(0.08, []), (0.1, ["warn"]), (0.4, ["invalid"])])
def test_cpu_time_stolen_by_the_host_is_reported(steal: float, severities: list[str]) -> None:
    assert [f.severity for f in judge(report(steal_cores=steal), TWO)] == severities


def test_swapping_is_invalid_and_a_stray_page_is_not() -> None:
    (finding,) = judge(report(swapped_bytes=300 << 20), TWO)
    assert finding.severity == "invalid"
    assert "300 MiB back from swap" in finding.text
    assert judge(report(swapped_bytes=4096), TWO) == []


def test_the_worst_finding_comes_first() -> None:
    findings = judge(report(foreign_cores=0.25, swapped_bytes=1 << 30), TWO)
    assert [finding.severity for finding in findings] == ["invalid", "warn"]
