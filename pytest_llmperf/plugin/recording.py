"""The record stage: runs perf tests once, like any test, and holds back their reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.measure.own_llama import watch_own_llama
from pytest_llmperf.measure.workload import Recorder, Workload
from pytest_llmperf.plugin.load_marker import read_load
from pytest_llmperf.plugin.verdict_reports import STRICT_XPASS, fail_report
from pytest_llmperf.session.recorded import Location, UnmeasuredTest
from pytest_llmperf.text import in_short

NOTHING_ASKED = (
    "this perf test made no request to llm_engine, so there is nothing to measure: call "
    "llm_engine.generate(), .chat() or .stream() in its body"
)
OWN_LLAMA = (
    "this perf test built its own llama_cpp.Llama: what runs inside pytest's process can't be "
    "replayed or timed fairly. Ask llm_engine instead, or make your code the engine "
    "(llm.engine: app, llm.target: package.module:callable)"
)


@dataclass(frozen=True)
class HeldTest:
    """One perf test whose body passed, waiting for its verdict.

    Attributes:
        item: the test.
        reports: its setup, call and teardown, not logged yet.
        workload: its requests to the engine.
        seconds: how long they took, inside generation.
        info: what the engine had loaded.
    """

    item: pytest.Item
    reports: list[pytest.TestReport]
    workload: Workload
    seconds: float
    info: EngineInfo | None = None

    @property
    def location(self) -> Location:
        """Where the test is defined."""
        return location_of(self.item)

    @property
    def call(self) -> pytest.TestReport:
        """The report of the body."""
        return next(report for report in self.reports if report.when == "call")

    def log(self) -> None:
        """Report the test to pytest."""
        log_reports(self.item, self.reports)

    def fail(self, text: str, summary: str | None = None) -> None:
        """Turn the body's report into a failure; ``summary`` is its one line."""
        fail_report(self.call, text, self.item, summary)


class RecordStage:
    """Runs perf tests once and records their requests to the engine."""

    def __init__(self, engine: LlmEngine) -> None:
        self._engine = engine
        self._recorder = Recorder()

    @contextmanager
    def listening(self, item: pytest.Item) -> Iterator[None]:
        """Record while the body runs; setup and teardown are not part of the workload."""
        self._recorder = Recorder()
        self._engine.reset()
        self._engine.observer = self._recorder
        _tame_benchmark(item)
        try:
            yield
            # A stream that the body stopped reading is part of the workload, too.
            self._engine.finish_stream()
        finally:
            self._engine.observer = None

    def run(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> HeldTest | list[pytest.TestReport]:
        """Run one test; return a HeldTest to be judged, or final reports."""
        self._recorder = Recorder()
        with watch_own_llama() as own:
            reports = run_quietly(item, nextitem)
        call = next((report for report in reports if report.when == "call"), None)
        if call is None or not _body_passed(call):
            return reports
        workload = self._recorder.workload()
        load, problems = read_load(item)
        if workload is not None and load is not None:
            workload = replace(workload, load=load)
        if own.built:
            fail_report(call, OWN_LLAMA, item)
        elif problems:
            # A session refuses its own wrong markers at collection; these are another commit's.
            fail_report(call, "\n".join(problems), item)
        elif workload is None:
            fail_report(call, NOTHING_ASKED, item)
        elif not any(report.failed for report in reports if report is not call):
            return HeldTest(item, reports, workload, self._recorder.seconds, self._engine.last_info)
        return reports


def location_of(item: pytest.Item) -> Location:
    """Return where a test is defined."""
    path, line, _ = item.location
    return Location(path.replace(os.sep, "/"), (line or 0) + 1)


def unmeasured(item: pytest.Item, reports: Sequence[pytest.TestReport]) -> UnmeasuredTest | None:
    """Describe a test that is not going to be measured; None for one that passed anyway."""
    for outcome in ("failed", "skipped"):
        for report in reports:
            if report.outcome == outcome:
                return UnmeasuredTest(
                    item.nodeid, outcome, _reason(report) or outcome, location_of(item)
                )
    return None


def _reason(report: pytest.TestReport) -> str:
    """Return why a test failed or was skipped, in one line."""
    text = report.longrepr
    if isinstance(text, tuple):  # a skipped test: file, line, reason
        text = text[2].removeprefix("Skipped: ")
    crash = getattr(text, "reprcrash", None)
    return in_short(str(text if crash is None else crash.message))


def _body_passed(call: pytest.TestReport) -> bool:
    """Whether the body passed; a strict xfail whose body passed counts, and gets a verdict."""
    return call.passed or str(call.longrepr).startswith(STRICT_XPASS)


def _tame_benchmark(item: pytest.Item) -> None:
    """Make pytest-benchmark's fixture call its function once, as rounds do the repetition."""
    benchmark: Any = (getattr(item, "funcargs", None) or {}).get("benchmark")
    if hasattr(benchmark, "disabled"):
        benchmark.disabled = True


def run_quietly(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run setup, call and teardown of ``item`` without logging their reports.

    ``_pytest.runner.runtestprotocol(log=False)`` is private to pytest, but pytest-rerunfailures
    has relied on it for years.
    """
    return runtestprotocol(item, log=False, nextitem=nextitem)


def log_reports(item: pytest.Item, reports: list[pytest.TestReport]) -> None:
    """Report the outcome of ``item`` to all plugins, as the runner would have."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
