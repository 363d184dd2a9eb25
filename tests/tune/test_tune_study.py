"""A study keeps every finished point; what a killed worker was measuring is proposed again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_llmperf.stored_json import dump
from pytest_llmperf.tune.propose import Proposal
from pytest_llmperf.tune.result import Level, MetricChange, Point
from pytest_llmperf.tune.space import Space
from pytest_llmperf.tune.storage import StudyError, check_optuna, without_password
from pytest_llmperf.tune.study import Study, identity_name

TODAY = {"n_threads": 1, "n_batch": 32, "flash_attn": False}
SPACE = Space(
    {"n_threads": (1, 2), "n_batch": (32, 128, 512), "flash_attn": (False, True)}, TODAY, 2
)
IDENTITY = {"model": "abc", "workload": ["w"], "space": {"n_threads": [1, 2]}}


def opened(folder: Path, name: str = "s", **identity: Any) -> Study:
    return Study.open(name, None, folder, {**IDENTITY, **identity}, SPACE, 7)


def proposal(**changed: Any) -> Proposal:
    return Proposal(SPACE.all_values(changed), "one at a time")


def measured(number: int, settings: dict[str, Any]) -> Point:
    change = MetricChange("end_to_end", 1.0, 2.0, -0.5, -0.6, -0.4, "t")
    return Point(
        number,
        1,
        settings,
        "measured",
        metrics=(change,),
        took_over=True,
        score=-0.7,
        levels=(Level("end_to_end", 1.0, "t"),),
    )


def stored(point: Point) -> dict[str, Any]:
    return dump(point)


def test_a_finished_point_is_read_back_whole(tmp_path: Path) -> None:
    study = opened(tmp_path)
    asked = study.ask(proposal(n_batch=128), 1)
    assert asked.values == {**TODAY, "n_batch": 128}
    point = measured(asked.number, {"n_batch": 128})
    study.finish(asked, point)
    assert opened(tmp_path).points() == [point]


def test_a_point_that_does_not_fit_is_kept_with_its_reason(tmp_path: Path) -> None:
    study = opened(tmp_path)
    asked = study.ask(proposal(n_batch=512), 3)
    point = Point(asked.number, 3, {"n_batch": 512}, "does not fit", "too large")
    study.finish(asked, point)
    assert opened(tmp_path).points() == [point]


def test_the_sampler_proposes_what_goes_together_and_repeats_nothing(tmp_path: Path) -> None:
    study = opened(tmp_path)
    seen: list[Any] = []
    for _ in range(4):
        asked = study.sample(1, lambda settings: settings not in seen)
        if asked is None:
            break
        seen.append(asked.values)
        study.finish(asked, measured(asked.number, SPACE.changed(asked.values)))
    assert len(seen) >= 2
    assert all(SPACE.why_not(SPACE.changed(settings)) == "" for settings in seen)


_CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{here!r}]
import test_tune_study as t
study = t.opened(Path(sys.argv[1]))
first = study.ask(t.proposal(n_batch=128), 1)
study.finish(first, t.measured(first.number, {{"n_batch": 128}}))
second = study.ask(t.proposal(flash_attn=True), 1)
third = study.ask(t.proposal(n_threads=2), 1)
third.trial.set_user_attr("point", t.stored(t.measured(third.number, {{"n_threads": 2}})))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_loses_no_finished_point(tmp_path: Path) -> None:
    code = _CHILD.format(here=str(Path(__file__).parent))
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert child.returncode == -9
    study = opened(tmp_path)
    # The second trial was being measured; of the third only the last step was missing.
    assert study.recover() == 1
    assert [point.settings for point in study.points()] == [{"n_batch": 128}, {"n_threads": 2}]
    assert study.running() == [{**TODAY, "flash_attn": True}]
    left = study.ask_left_behind(1)
    assert left is not None
    assert left.values == {**TODAY, "flash_attn": True}
    assert left.origin == "one at a time"
    study.finish(left, measured(left.number, {"flash_attn": True}))
    assert study.ask_left_behind(1) is None
    assert study.recover() == 0
    assert len(study.points()) == 3


def test_a_worker_that_still_runs_keeps_its_trial(tmp_path: Path) -> None:
    study = opened(tmp_path)
    asked = study.ask(proposal(n_batch=128), 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = psutil.Process(other.pid).create_time()
        worker = {**asked.trial.user_attrs["worker"], "pid": other.pid, "started": started}
        asked.trial.set_user_attr("worker", worker)
        assert opened(tmp_path).recover() == 0
        other.communicate(b"\n")
    assert opened(tmp_path).recover() == 1


def test_two_workers_see_each_others_points(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    asked = first.ask(proposal(n_batch=128), 1)
    assert second.running() == [{**TODAY, "n_batch": 128}]
    first.finish(asked, measured(asked.number, {"n_batch": 128}))
    assert [point.settings for point in second.points()] == [{"n_batch": 128}]


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(StudyError, match=r"to a different search .different model.*--study"):
        opened(tmp_path, model="other")


def test_the_default_name_is_that_of_the_search() -> None:
    assert identity_name(IDENTITY) == identity_name(dict(IDENTITY))
    assert identity_name(IDENTITY) != identity_name({**IDENTITY, "model": "other"})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere", "expected a URL"),
        ("postgresql://me:secret@127.0.0.1:1/none", "postgresql://me@127.0.0.1:1/none"),
    ],
)
def test_a_storage_that_can_not_be_used_is_named(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        Study.open("s", url, tmp_path, IDENTITY, SPACE, 7)
    assert "secret" not in str(caught.value)
    assert "--storage" in str(caught.value)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(StudyError, match=r"pip install 'pytest-llmperf\[tune\]'"):
        check_optuna()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:se:cret@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql://me:se?cret@host/db", "postgresql://me@host/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db"),
        ("sqlite:////tmp/a study.db", "sqlite:////tmp/a study.db"),
        ("me:secret", "me"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
