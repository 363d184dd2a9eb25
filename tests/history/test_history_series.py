"""Which sessions are compared with each other, and in which order."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from commit_projects import repository_at
from history_projects import FOLDER, KEY, LONG, MODEL, SHORT, Project, moment, record_of, test_of

from pytest_llmperf.baselines.decisions import Decision
from pytest_llmperf.baselines.decisions import to_text as decision_text
from pytest_llmperf.baselines.record import MetricRecord, ModelIdentity, to_text
from pytest_llmperf.history import record_reader
from pytest_llmperf.history.build import History, build_history
from pytest_llmperf.history.series import Group, wanted_metrics
from pytest_llmperf.history.sessions import read_sessions
from pytest_llmperf.repository.revisions import resolve


def history_of(project: Project, **choices: Any) -> History:
    return build_history(read_sessions(repository_at(project.top), FOLDER), **choices)


def rates(group: Group) -> list[float]:
    (series,) = (candidate for candidate in group.series if candidate.name == "tokens_per_sec")
    return [round(value) for value in series.values.tolist()]


def test_sessions_stand_in_the_order_of_their_commits(project: Project) -> None:
    first = project.commit({"app.py": "1"})
    second = project.commit({"app.py": "2"}, day=1)
    for day, commit, rate in ((5, second, 20.0), (9, first, 10.0)):
        record = record_of(day, commit, rate)
        project.commit({f"{FOLDER}/{KEY}/{day}.json": to_text(record)}, day=day)
    (group,) = history_of(project).groups
    assert rates(group) == [10, 20]


def test_sessions_of_one_commit_stand_in_the_order_of_recording(project: Project) -> None:
    commit = project.commit({"app.py": "1"})
    for day in (5, 3, 4):
        record = record_of(day, commit, 10.0 * day)
        project.commit({f"{FOLDER}/{KEY}/{9 - day}.json": to_text(record)}, day=5)
    (group,) = history_of(project).groups
    assert rates(group) == [30, 40, 50]


@pytest.mark.parametrize("commit", [None, "f" * 40])
def test_a_session_of_no_known_commit_stands_at_its_time(
    project: Project, commit: str | None
) -> None:
    project.grow([10.0, 20.0, 30.0, 40.0], records={1: {"commit": commit}})
    history = history_of(project)
    assert rates(history.groups[0]) == [10, 20, 30, 40]
    assert [session.known for session in history.sessions] == [True, False, True, True]


def test_another_workload_is_another_series(project: Project) -> None:
    changed = {"workload": "w2", "summary": "other"}
    project.grow([10.0, 20.0, 30.0, 40.0], records={2: changed, 3: changed})
    old, new = history_of(project).groups
    assert (old.subject.workload, rates(old)) == ("w1", [10, 20])
    assert (new.subject.workload, new.summary, rates(new)) == ("w2", "other", [30, 40])


def test_another_model_is_another_series(project: Project) -> None:
    project.grow([10.0, 20.0, 30.0], records={1: {"model": ModelIdentity("b", "c2" * 32)}})
    first, second = history_of(project).groups
    assert (first.model, rates(first)) == (MODEL.name, [10, 30])
    assert (second.model, rates(second)) == ("b", [20])


def test_the_same_model_by_another_name_is_one_series(project: Project) -> None:
    renamed = ModelIdentity("renamed", MODEL.sha256)
    project.grow([10.0, 20.0], records={1: {"model": renamed}})
    (group,) = history_of(project).groups
    assert (group.model, rates(group)) == ("renamed", [10, 20])


def test_engines_without_a_model_file_are_told_apart_by_name(project: Project) -> None:
    models = {n: {"model": ModelIdentity(f"app-{n % 2}", None)} for n in range(4)}
    project.grow([10.0, 20.0, 30.0, 40.0], records=models)
    assert [rates(group) for group in history_of(project).groups] == [[10, 30], [20, 40]]


def test_another_machine_is_another_series(project: Project) -> None:
    project.commit({"app.py": "1"})
    project.record(1, 10.0)
    project.record(2, 20.0, key="ryzen-8c_cpu")
    assert [(g.subject.machine, rates(g)) for g in history_of(project).groups] == [
        ("ryzen-8c_cpu", [20]),
        (KEY, [10]),
    ]


def test_invalid_sessions_are_left_out_and_counted(project: Project) -> None:
    project.grow([10.0, 20.0, 30.0], records={1: {"invalid": ("busy",)}})
    (group,) = history_of(project).groups
    assert (rates(group), group.invalid) == ([10, 30], 1)


def test_a_test_that_was_only_ever_invalid_has_no_series(project: Project) -> None:
    project.grow([10.0], records={0: {"invalid": ("busy",)}})
    assert history_of(project).groups == []


def test_a_metric_that_came_later_starts_later(project: Project) -> None:
    more = {**test_of(20.0).metrics, "inter_token": MetricRecord("s", ((0.01,),))}
    project.grow([10.0, 20.0, 30.0], records={1: {"metrics": more}})
    (group,) = history_of(project).groups
    lengths = {series.name: series.sessions.tolist() for series in group.series}
    assert lengths == {
        "tokens_per_sec": [0, 1, 2],
        "first_token": [0, 1, 2],
        "inter_token": [1],
    }


def test_only_the_tests_asked_for_are_there(project: Project) -> None:
    project.commit({"app.py": "1"})
    project.record(1, 10.0, names=(SHORT, LONG))
    (group,) = history_of(project, tests=(LONG,)).groups
    assert group.subject.nodeid == LONG


def test_the_newest_sessions_are_kept(project: Project) -> None:
    project.grow([10.0, 20.0, 30.0])
    (group,) = history_of(project, limit=2).groups
    assert rates(group) == [20, 30]


def test_sessions_since_a_day_are_kept(project: Project) -> None:
    project.grow([10.0, 20.0, 30.0])
    (group,) = history_of(project, since=moment(1)[:10]).groups
    assert rates(group) == [20, 30]


def test_sessions_since_a_commit_are_kept(project: Project) -> None:
    measured = project.grow([10.0, 20.0, 30.0, 40.0], records={0: {"commit": None}})
    revision = resolve(repository_at(project.top), measured[2])
    (group,) = history_of(project, since=revision).groups
    assert rates(group) == [30, 40]


def decide(project: Project, kind: str, path: str, tests: tuple[str, ...] | None = None) -> str:
    name = PurePosixPath(path).name
    decision = Decision(kind, f"{moment(9)[:-1]}.250Z", name, tests, "a better sampler")  # type: ignore[arg-type]
    where = f"{FOLDER}/{KEY}/decisions/{kind}.json"
    project.commit({where: decision_text(decision)})
    return where


def marks(project: Project) -> list[tuple[int, str, str, str]]:
    return [tuple(mark) for group in history_of(project).groups for mark in group.marks]


def test_accepted_levels_and_anchors_are_marked(project: Project) -> None:
    project.commit({"app.py": "1"})
    paths = [project.record(number) for number in range(3)]
    decide(project, "accept", paths[1])
    decide(project, "anchor", paths[0], (SHORT,))
    assert marks(project) == [
        (0, "anchor", "a better sampler", moment(9)[:10]),
        (1, "accept", "a better sampler", moment(9)[:10]),
    ]


def test_a_level_accepted_in_the_record_is_marked(project: Project) -> None:
    project.grow([10.0, 20.0], records={1: {"accepted": "why not"}})
    assert marks(project) == [(1, "accept", "why not", "")]


def test_a_decision_about_another_test_is_not_marked(project: Project) -> None:
    project.commit({"app.py": "1"})
    decide(project, "accept", project.record(1), (LONG,))
    assert marks(project) == []


def test_a_decision_of_the_work_tree_counts(project: Project) -> None:
    project.commit({"app.py": "1"})
    where = decide(project, "accept", project.record(1))
    text = (project.top / where).read_text()
    (project.top / where).write_text(text.replace("better", "worse"))
    assert marks(project) == [(0, "accept", "a worse sampler", moment(9)[:10])]


def test_an_unreadable_decision_is_named(project: Project) -> None:
    project.commit({"app.py": "1"})
    where = decide(project, "accept", project.record(1))
    project.commit({where: "{}"})
    assert list(history_of(project).unreadable) == [where]


@pytest.mark.skipif(os.name == "nt", reason="needs a device in the file system")
def test_a_decision_whose_content_cannot_be_had_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.grow([10.0, 20.0])
    committed, device = (f"{FOLDER}/{KEY}/decisions/{name}.json" for name in ("a", "b"))
    project.commit({committed: " " * 20_000})
    (project.top / device).symlink_to("/dev/zero")
    monkeypatch.setattr(record_reader, "MAX_BYTES", 10_000)
    history = history_of(project)
    assert len(history.sessions) == 2
    assert history.unreadable[committed].startswith("its content is not in this clone, or far too")
    assert history.unreadable[device] == "not a regular file, or far too long\nremove it"


def test_one_metric_of_a_quantity_is_shown_unless_more_are_asked_for() -> None:
    names = ["time_per_output_token", "energy", "first_token", "tokens_per_sec", "inter_token_p95"]
    assert wanted_metrics(None, names) == [
        "tokens_per_sec",
        "first_token",
        "energy",
        "inter_token_p95",
    ]
    assert wanted_metrics(["time_per_output_token"], names) == ["time_per_output_token"]


def test_series_point_at_their_sessions(project: Project) -> None:
    project.grow([10.0, 20.0, 30.0], records={1: {"invalid": ("busy",)}})
    history = history_of(project)
    for series in history.groups[0].series:
        assert series.sessions.tolist() == [0, 2]
        assert np.all(series.values > 0)
    assert [session.recorded for session in history.sessions] == [moment(n) for n in range(3)]
