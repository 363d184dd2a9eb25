"""Levels of a record: one number per test and metric, with a description of the tests."""

from __future__ import annotations

from array import array
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class TestLevels(NamedTuple):
    """One test of a session, as recorded, with (name, unit) of each metric.

    The levels of an ``invalid`` test may not be used for verdicts.
    """

    nodeid: str
    workload: str
    summary: str
    invalid: bool
    accepted: str | None
    metrics: tuple[tuple[str, str], ...]


class SessionLevels(NamedTuple):
    """The levels of one recorded session; fields are named as in the record.

    Attributes:
        model, sha256: the model's name, and the hash of its file where it has one.
        values: a level per test and metric, in the order of ``tests`` and in stored units: the
            median over processes of each process's median over iterations.
    """

    recorded: str
    commit: str | None
    dirty: bool
    machine: str
    model: str
    sha256: str | None
    tests: tuple[TestLevels, ...]
    values: array[float]


def read_levels(text: bytes) -> SessionLevels:
    """Return the levels in a record's text.

    Raises:
        ValueError: it is not a record that this version reads; says why, as ``read_json`` does.
    """
    from pytest_llmperf.history.record_json import read_json  # imports pydantic, which is slow

    data = read_json(text)
    provenance, model = data["provenance"], data["model"]
    return SessionLevels(
        data["recorded"],
        provenance["commit"],
        provenance["dirty"],
        data["machine"]["key"],
        model["name"],
        model["sha256"],
        tuple(_test(nodeid, test) for nodeid, test in data["tests"].items()),
        array("d", [level for test in data["tests"].values() for level in _levels(test)]),
    )


def different_tests(sessions: Iterable[SessionLevels]) -> list[tuple[TestLevels, ...]]:
    """Return the sessions' descriptions of tests, each object that sessions share only once."""
    return list({id(session.tests): session.tests for session in sessions}.values())


def _test(nodeid: str, test: Any) -> TestLevels:
    metrics = tuple((name, metric["unit"]) for name, metric in test["metrics"].items())
    return TestLevels(
        nodeid,
        test["workload"],
        test["summary"],
        bool(test["invalid"]),
        test.get("accepted"),
        metrics,
    )


def _levels(test: Any) -> list[float]:
    return [
        median([median(process) for process in metric["samples"]])
        for metric in test["metrics"].values()
    ]
