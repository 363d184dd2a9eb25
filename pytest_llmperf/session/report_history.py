"""Levels of a session's tests in earlier recorded sessions, for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.stored_json import Bounded, Flag, Stored, Whole

if TYPE_CHECKING:
    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.series import Series
    from pytest_llmperf.history.sessions import RecordedSessions
    from pytest_llmperf.session.result import SessionResult, TestResult

#: Newest recorded sessions of a metric that a report holds.
MAX_SESSIONS = 60


@dataclass(frozen=True)
class PastSession(Stored):
    """An earlier recorded session: UTC time, commit, whether files had changed, its file."""

    recorded: str
    commit: str | None
    dirty: Flag
    file: str


@dataclass(frozen=True)
class PastChange(Stored):
    """A change of level: its first session, by position, and the slowdown as a fraction."""

    index: Whole
    slowdown: Bounded
    low: Bounded
    high: Bounded


@dataclass(frozen=True)
class PastLevels(Stored):
    """One metric of one test over earlier sessions, oldest first.

    Attributes:
        sessions: index of each session in ``ReportHistory.sessions``.
        values: level of each session, base unit.
        changes: where the level changed.
    """

    sessions: tuple[Whole, ...]
    values: tuple[Bounded, ...]
    changes: tuple[PastChange, ...] = ()


@dataclass(frozen=True)
class ReportHistory:
    """Earlier sessions of the same machine, model and workloads.

    Attributes:
        sessions: oldest first, in the order of the commits.
        levels: the levels by node id and metric.
        problem: why the history could not be read; empty if it was, or nothing was recorded.
    """

    sessions: tuple[PastSession, ...] = ()
    levels: Mapping[str, Mapping[str, PastLevels]] = field(default_factory=dict)
    problem: str = ""


def report_history(result: SessionResult, baselines_dir: Path) -> ReportHistory:
    """Read the history of a session's tests; the session itself is not part of it."""
    folder = baselines_dir.resolve()
    if not (folder / result.machine_key).is_dir():
        return ReportHistory()
    try:
        repository = Repository.around(folder)
        if repository is None or not folder.is_relative_to(repository.top):
            return ReportHistory()
        recorded = _recorded(repository, folder, result)
        return _history_of(result.tests, _built(recorded, result.tests), result)
    except (GitError, OSError) as error:
        return ReportHistory(problem=f"the history could not be read: {error}")


def _recorded(repository: Repository, folder: Path, result: SessionResult) -> RecordedSessions:
    from pytest_llmperf.history.sessions import open_index, read_sessions

    below = folder.relative_to(repository.top).as_posix()
    below = "" if below == "." else below
    recorded = read_sessions(repository, below, result.machine_key, open_index())
    if result.recorded_to is None:
        return recorded
    own = Path(result.recorded_to).resolve()
    others = [s for s in recorded.sessions if (repository.top / s.path).resolve() != own]
    return replace(recorded, sessions=others)


def _built(recorded: RecordedSessions, tests: Sequence[TestResult]) -> History:
    from pytest_llmperf.history.build import build_history

    return build_history(
        recorded,
        tests={test.nodeid for test in tests},
        metrics={row.check.metric.name for test in tests for row in test.rows},
        limit=MAX_SESSIONS,
    )


def _history_of(
    tests: Sequence[TestResult], history: History, result: SessionResult
) -> ReportHistory:
    """Keep the series with the session's own tests, workloads and model."""
    model = result.model_file
    own = {model.sha256, model.name} if model is not None else set()
    workloads = {test.nodeid: test.workload_hash for test in tests}
    series = {
        group.subject.nodeid: {line.name: line for line in group.series}
        for group in history.groups
        if group.subject.workload == workloads[group.subject.nodeid] and group.subject.model in own
    }
    used = sorted(
        {
            session
            for metrics in series.values()
            for line in metrics.values()
            for session in line.sessions.tolist()
        }
    )
    index = {session: position for position, session in enumerate(used)}
    shown = [history.sessions[session] for session in used]
    return ReportHistory(
        tuple(PastSession(s.recorded, s.commit, s.dirty, s.path) for s in shown),
        {
            nodeid: {name: _levels(line, index) for name, line in metrics.items()}
            for nodeid, metrics in series.items()
        },
    )


def _levels(series: Series, index: Mapping[int, int]) -> PastLevels:
    return PastLevels(
        tuple(index[session] for session in series.sessions.tolist()),
        tuple(series.values.tolist()),
        tuple(PastChange(c.index, c.effect, c.low, c.high) for c in series.changes),
    )
