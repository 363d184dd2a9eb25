"""Schedules of a load: their times, their ends, and traces from a file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.schedule import ScheduleError, closed, constant, poisson, trace


def test_constant_arrivals_are_equally_far_apart():
    assert constant(4, requests=3).due == (0.0, 0.25, 0.5)
    assert constant(4, duration=1).due == (0.0, 0.25, 0.5, 0.75)
    assert constant(4, duration=1, requests=2).due == (0.0, 0.25)


def test_poisson_arrivals_are_those_of_their_seed():
    due = poisson(10, seed=1, requests=4000).due
    gaps = [after - before for before, after in pairwise(due)]
    assert fmean(gaps) == pytest.approx(0.1, rel=0.1)
    assert pstdev(gaps) == pytest.approx(0.1, rel=0.1)
    assert due == poisson(10, seed=1, requests=4000).due
    assert due[:50] == poisson(10, seed=1, requests=50).due
    assert due != poisson(10, seed=2, requests=4000).due
    # The same in every version of Python, so that recorded seeds keep their meaning.
    assert due[:3] == pytest.approx((0.0, 0.0144291, 0.2024447), abs=1e-6)
    # The first request is due at once, however low the rate is.
    assert poisson(1e-9, seed=1, duration=1).due == (0.0,)


def test_equal_loads_have_equal_hashes():
    assert poisson(10, seed=1, requests=9).hash == poisson(10, seed=1, requests=9).hash
    others = [poisson(10, seed=2, requests=9), constant(10, requests=9), closed(2, requests=9)]
    assert len({schedule.hash for schedule in others} | {closed(3, requests=9).hash}) == 4


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_parts_of_several_senders_are_the_whole(count):
    whole = poisson(20, seed=3, requests=17)
    parts = [whole.part(index, count) for index in range(count)]
    assert sorted(at for part in parts for at in part.due) == sorted(whole.due)
    assert all(part.due == whole.due[index::count] for index, part in enumerate(parts))
    shares = [closed(5, requests=17).part(index, count) for index in range(count)]
    assert (sum(s.concurrency for s in shares), sum(s.requests for s in shares)) == (5, 17)
    assert closed(5, duration=2.0).part(0, count).requests is None


def test_a_closed_load_has_no_times_and_says_so():
    schedule = closed(8, requests=20)
    assert (schedule.is_open, schedule.due, schedule.concurrency) == (False, (), 8)
    assert constant(1, requests=1).is_open


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: constant(0, requests=1), "rate"),
        (lambda: constant(float("nan"), requests=1), "rate"),
        (lambda: constant(1), "needs an end"),
        (lambda: constant(1, requests=0), "requests"),
        (lambda: constant(1, requests=True), "requests"),
        (lambda: constant(1, duration=-1), "duration"),
        (lambda: constant(1e6, duration=3600), "200,000 requests, and this one has more"),
        (lambda: constant(1, requests=10**9), "from 1 to 200,000"),
        (lambda: closed(0, requests=1), "concurrency"),
        (lambda: closed(1.5, requests=1), "concurrency"),
        (lambda: closed(2), "needs an end"),
    ],
)
def test_a_load_that_can_not_be_is_refused(make, named):
    with pytest.raises(ScheduleError, match=named):
        make()


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.jsonl"
    path.write_text(text)
    return path


def test_a_trace_is_read_in_order_of_time_from_its_first_request(tmp_path):
    schedule = trace(
        written(
            tmp_path,
            '{"at": 3.0}\n\n{"timestamp": 1500, "prompt": "b", "output_length": 4}\n'
            '{"at": 2, "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}\n',
        )
    )
    assert schedule.due == (0.0, 0.5, 1.5)
    assert schedule.traced == (
        ServerRequest("b", max_tokens=4),
        ServerRequest(messages=({"role": "user", "content": "a"},), max_tokens=5),
        None,
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "there is no request"),
        ('{"at": 0}\n{"at" 1}', "line 2: not JSON: Expecting ':' delimiter, character 7"),
        ('{"at": 0, "timestamp": 1}', "line 1: it has both at"),
        ("[]", "line 1: expected a JSON object"),
        ("{}", "line 1: at: expected seconds"),
        ('{"at": -1}', "line 1: at"),
        ('{"at": true}', "line 1: at"),
        ('{"at": "x"}', "line 1: at"),
        ('{"timestamp": "x"}', "line 1"),
        ('{"at": NaN}', "line 1: at"),
        ('{"at": 0, "max_tokens": 3}', "belongs to a request"),
        ('{"at": 0, "prompt": "a", "max_tokens": 0}', "max_tokens"),
        ('{"at": 0, "prompt": "a", "messages": []}', "both prompt and messages"),
        ('{"at": 0, "prompt": 7}', "prompt"),
        ('{"at": 0, "messages": "a"}', "messages"),
    ],
)
def test_a_trace_that_can_not_be_used_names_its_line(text, named, tmp_path):
    with pytest.raises(ScheduleError, match=named):
        trace(written(tmp_path, text))
    with pytest.raises(ScheduleError, match="can't be read"):
        trace(tmp_path / "missing.jsonl")
