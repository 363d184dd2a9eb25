"""Sessions that are no longer needed, and whose removal changes no verdict."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.decisions import Decision
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.match import find_baseline, group_comparable
from pytest_llmperf.baselines.prune import MIN_KEEP, removable_sessions, remove
from pytest_llmperf.baselines.record import MetricRecord, ModelIdentity, TestRecord
from pytest_llmperf.baselines.samples import BaselineSamples, collect_baseline_samples
from pytest_llmperf.baselines.store import BaselineStore, Shelf

KEY = "xeon-sapphire-rapids-2c_cpu"
TEST = "test_chat.py::test_short"
NAMES = [f"202611{day:02}T120000Z_0123456789ab.json" for day in range(32)]


@pytest.fixture
def record_day(store: BaselineStore, make_record: Any) -> Callable[..., Path]:
    """Record a session at noon of a day; keywords replace parts of its test."""

    def record(day: int, nodeid: str = TEST, **changes: Any) -> Path:
        parts = {key: changes.pop(key) for key in ("model", "machine") if key in changes}
        metrics = {"first_token": MetricRecord("s", ((float(day),),))}
        test = TestRecord(**{"workload": "w1", "summary": "", "metrics": metrics, **changes})
        time = f"2026-11-{day:02}T12:00:00Z"
        return store.write(make_record(recorded=time, tests={nodeid: test}, **parts))

    return record


def decide(store: BaselineStore, kind: Any, session: Path, day: int = 30) -> Path:
    time = f"2026-11-{day:02}T20:00:00.000Z"
    return store.write_decision(KEY, Decision(kind, time, session.name, None, "why"))


def removable_days(store: BaselineStore, keep: int = MIN_KEEP) -> list[int]:
    """Return the days of the sessions that may be removed."""
    return [int(s.path.name[6:8]) for s in removable_sessions(store.read_shelf(KEY), keep)]


def test_sessions_older_than_the_newest_may_go_but_for_the_anchor(
    store: Any, record_day: Any
) -> None:
    for day in range(1, 19):
        record_day(day)
    assert removable_days(store, keep=12) == [4, 5, 6]


def test_nothing_goes_while_there_are_few(store: Any, record_day: Any) -> None:
    for day in range(1, 11):
        record_day(day)
    assert removable_days(store) == []


def test_fewer_than_judge_can_not_be_kept() -> None:
    with pytest.raises(ValueError, match="that many sessions judge"):
        removable_sessions(Shelf(), MIN_KEEP - 1)


def test_a_chosen_anchor_stays(store: Any, record_day: Any) -> None:
    paths = [record_day(day) for day in range(1, 17)]
    decide(store, "anchor", paths[4])
    assert removable_days(store) == [1, 2, 3, 4, 6]


def test_an_anchor_that_a_later_decision_replaced_stays_too(store: Any, record_day: Any) -> None:
    paths = [record_day(day) for day in range(1, 17)]
    decide(store, "anchor", paths[1], 28)
    decide(store, "anchor", paths[4], 29)
    assert removable_days(store) == [1, 3, 4, 6]


def test_an_accepted_session_and_the_anchor_after_it_stay(store: Any, record_day: Any) -> None:
    paths = [record_day(day) for day in range(1, 20)]
    decide(store, "accept", paths[2])
    assert removable_days(store) == [1, 2, 6, 7, 8, 9]


def test_an_accepting_session_and_the_anchor_after_it_stay(store: Any, record_day: Any) -> None:
    for day in range(1, 20):
        record_day(day, accepted="why" if day == 3 else None)
    assert removable_days(store) == [1, 2, 6, 7, 8, 9]


def test_an_acceptance_that_a_later_one_replaced_may_go(store: Any, record_day: Any) -> None:
    for day in range(1, 20):
        record_day(day, accepted="why" if day in (3, 7) else None)
    assert removable_days(store) == [1, 2, 3, 4, 5, 6]


def test_invalid_sessions_do_not_push_out_those_that_judge(store: Any, record_day: Any) -> None:
    for day in range(1, 30):
        record_day(day, invalid=("throttled",) if day > 15 else ())
    # 16-19 are invalid and old; 4 and 5 are neither among the ten that judge nor the anchor.
    assert removable_days(store) == [4, 5, 16, 17, 18, 19]


def test_as_many_valid_sessions_stay_as_are_asked_for(store: Any, record_day: Any) -> None:
    for day in range(1, 30):
        record_day(day, invalid=("throttled",) if day > 16 else ())
    assert removable_days(store, keep=12) == [4, 17]


def test_sessions_that_judge_a_seldom_recorded_metric_stay(store: Any, record_day: Any) -> None:
    for day in range(1, 20):
        names = ("first_token", "inter_token") if day in (4, 5, 6, 8) else ("first_token",)
        record_day(day, metrics={name: MetricRecord("s", ((float(day),),)) for name in names})
    assert removable_days(store) == [7, 9]


def test_an_accepted_session_stays_though_the_anchor_is_another(
    store: Any, record_day: Any
) -> None:
    paths = [record_day(day) for day in range(1, 20)]
    decide(store, "anchor", paths[5])
    paths[2].unlink()
    record_day(3, accepted="why")
    assert removable_days(store) == [1, 2, 4, 5, 7, 8, 9]


def test_each_test_keeps_its_own_newest_sessions(store: Any, record_day: Any) -> None:
    for day in range(1, 6):
        record_day(day, nodeid="test_old.py::test_rarely_recorded")
    for day in range(6, 20):
        record_day(day)
    assert removable_days(store) == [9]


def test_each_model_keeps_its_own_newest_sessions(store: Any, record_day: Any) -> None:
    for day in range(1, 6):
        record_day(day, model=ModelIdentity("other", "c2" * 32))
    for day in range(6, 20):
        record_day(day)
    assert removable_days(store) == [9]


def test_a_workload_that_is_over_needs_nothing(store: Any, record_day: Any) -> None:
    for day in range(1, 20):
        record_day(day, workload="w1" if day < 8 else "w2")
    assert removable_days(store) == list(range(1, 8))


def test_a_workload_that_still_alternates_keeps_its_sessions(store: Any, record_day: Any) -> None:
    for day in range(1, 20):
        record_day(day, workload="w1" if day < 8 or day == 19 else "w2")
    assert removable_days(store) == []


def test_removing_yields_each_file_once_it_is_gone(store: Any, record_day: Any) -> None:
    paths = [record_day(day) for day in range(1, 16)]
    shelf = store.read_shelf(KEY)
    for path in remove(store, KEY, removable_sessions(shelf, MIN_KEEP)):
        assert not path.exists()
    assert [path for path in paths if not path.exists()] == paths[3:5]


def test_interrupted_anywhere_it_leaves_a_valid_store(store: Any, record_day: Any) -> None:
    for day in range(1, 16):
        record_day(day)
    steps = remove(store, KEY, removable_sessions(store.read_shelf(KEY), MIN_KEEP))
    next(steps)
    steps.close()
    store.check_all()
    assert removable_days(store) == [5]


def test_a_session_that_somebody_decided_about_meanwhile_stays(store: Any, record_day: Any) -> None:
    paths = [record_day(day) for day in range(1, 16)]
    steps = remove(store, KEY, removable_sessions(store.read_shelf(KEY), MIN_KEEP))
    assert next(steps) == paths[3]
    decide(store, "anchor", paths[4])
    assert list(steps) == []
    store.check_all()


def test_a_session_that_another_prune_removed_is_passed_over(store: Any, record_day: Any) -> None:
    paths = [record_day(day) for day in range(1, 16)]
    sessions = removable_sessions(store.read_shelf(KEY), MIN_KEEP)
    paths[3].unlink()
    assert list(remove(store, KEY, sessions)) == [paths[4]]


def test_a_file_that_can_not_be_removed_is_named(
    store: Any, record_day: Any, monkeypatch: Any
) -> None:
    for day in range(1, 16):
        record_day(day)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(BaselineError, match=rf"{NAMES[4]}: cannot be removed: permission denied"):
        list(remove(store, KEY, removable_sessions(store.read_shelf(KEY), MIN_KEEP)))


def all_evidence(store: BaselineStore) -> dict[Any, BaselineSamples]:
    """Return the samples that judge each test and metric of each model, at its newest workload."""
    evidence = {}
    shelf = store.read_shelf(KEY)
    for group in group_comparable(shelf.records):
        model = group[-1].record.model
        matching = find_baseline(store, group[-1].record.machine, model)
        for nodeid in {name for s in group for name in s.record.tests}:
            newest = [s for s in group if nodeid in s.record.tests][-1].record.tests[nodeid]
            for metric in ("first_token", "inter_token"):
                evidence[model.name, nodeid, metric] = collect_baseline_samples(
                    matching.records,
                    nodeid,
                    newest.workload,
                    metric,
                    decisions=matching.decisions,
                )
    return evidence


@pytest.mark.parametrize("seed", range(12))
def test_no_verdict_changes(store: Any, record_day: Any, make_record: Any, seed: int) -> None:
    chance = random.Random(seed)
    models = [make_record().model, ModelIdentity("other", "c2" * 32)]
    for day in range(1, 30):
        names = ["first_token", "inter_token"][: 1 if chance.random() < 0.8 else 2]
        path = record_day(
            day,
            nodeid=chance.choices(("test_a.py::test_a", "test_b.py::test_b"), (9, 1))[0],
            model=chance.choices(models, (9, 1))[0],
            workload=chance.choices(("w1", "w2"), (9, 1))[0],
            invalid=("throttled",) if chance.random() < 0.2 else (),
            accepted="why" if chance.random() < 0.05 else None,
            metrics={name: MetricRecord("s", ((float(day),),)) for name in names},
        )
        if chance.random() < 0.1:
            decide(store, chance.choice(("accept", "anchor")), path, day)
    before = all_evidence(store)
    removed = list(remove(store, KEY, removable_sessions(store.read_shelf(KEY), MIN_KEEP)))
    after = all_evidence(store)
    for key, samples in before.items():
        assert (samples.status, samples.records, samples.anchor_records) == (
            after[key].status,
            after[key].records,
            after[key].anchor_records,
        ), (key, removed)
