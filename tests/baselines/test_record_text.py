"""The text of a stored record: round trip, stable order, readable samples."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmperf.baselines.json_text import dumps
from pytest_llmperf.baselines.record import MetricRecord, from_json, to_text
from pytest_llmperf.request_digest import RequestDigest
from pytest_llmperf.stored_json import ShapeError

positive = st.floats(min_value=1e-15, max_value=1e18)


def test_a_record_survives_the_round_trip(make_record: Any) -> None:
    text = to_text(make_record())
    assert to_text(from_json(json.loads(text))) == text


def test_tests_and_their_metrics_are_written_by_name(make_record: Any) -> None:
    record = make_record()
    (test,) = record.tests.values()
    assert list(test.metrics) == ["tokens_per_sec", "first_token"]
    written = json.loads(to_text(replace(record, tests={"b.py::b": test, "a.py::a": test})))
    assert list(written["tests"]) == ["a.py::a", "b.py::b"]
    assert list(written["tests"]["b.py::b"]["metrics"]) == ["first_token", "tokens_per_sec"]


def test_the_reason_of_an_accepted_level_is_kept(make_record: Any) -> None:
    text = to_text(make_record(test={"accepted": "a better sampler"}))
    (test,) = from_json(json.loads(text)).tests.values()
    assert test.accepted == "a better sampler"


def test_what_can_be_told_of_a_prompt_is_kept_in_a_line_each(make_record: Any) -> None:
    digest = RequestDigest("token", 14, 14, 8, "5f3a9c21", 4, "0b7", {"seed": 1})
    text = to_text(make_record(test={"requests": (digest, digest)}))
    assert text.count('["token", 14, 14, 8, "5f3a9c21", 4, "0b7", "{\\"seed\\": 1}"]') == 2
    data = json.loads(text)
    (test,) = from_json(data).tests.values()
    assert test.requests == (digest, digest)
    (stored,) = data["tests"].values()
    stored["requests"][1] = ["token"]
    with pytest.raises(
        ShapeError, match=r"requests\[1\]: expected the digest of a request, got \['token'\]"
    ):
        from_json(data)


def test_the_calibration_a_session_was_judged_with_is_kept(make_record: Any) -> None:
    noise = {"between processes": {"tokens_per_sec": 0.012}, "sessions": 20}
    record = make_record()
    text = to_text(make_record(session=replace(record.session, calibration=noise)))
    assert from_json(json.loads(text)).session.calibration == noise


def test_a_record_from_before_calibrations_has_none(make_record: Any) -> None:
    data = json.loads(to_text(make_record()))
    assert "calibration" not in data["session"]
    assert from_json(data).session.calibration is None


def test_a_metric_of_one_value_per_process_survives_the_round_trip(make_record: Any) -> None:
    metric = MetricRecord("s", ((0.012,), (0.013,)))
    text = to_text(make_record(test={"metrics": {"inter_token_p95": metric}}))
    (test,) = from_json(json.loads(text)).tests.values()
    assert test.metrics["inter_token_p95"] == metric


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    nodeid=st.text(st.characters(), min_size=1),
    samples=st.lists(st.lists(positive, min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_any_test_and_samples_survive_the_round_trip(
    make_record: Any, nodeid: str, samples: list[list[float]]
) -> None:
    record = make_record()
    (test,) = record.tests.values()
    metric = MetricRecord("s", tuple(tuple(process) for process in samples))
    changed = make_record(test={"metrics": {"first_token": metric}})
    text = to_text(type(record)(**{**vars(changed), "tests": {nodeid: test}}))
    reread = from_json(json.loads(text.encode("utf-8", "strict").decode()))
    assert list(reread.tests) == [nodeid]
    assert to_text(reread) == text
    stored = from_json(json.loads(to_text(changed)))
    (values,) = [t.metrics["first_token"].samples for t in stored.tests.values()]
    for read, expected in zip(values, samples, strict=True):
        assert read == pytest.approx(expected, rel=1e-8)


def test_each_process_is_one_line(make_record: Any) -> None:
    lines = to_text(make_record()).splitlines()
    assert "            [84.9123457, 85.1, 84.7]," in lines


def test_the_order_of_keys_does_not_depend_on_the_order_of_tests(make_record: Any) -> None:
    (test,) = make_record().tests.values()
    record = make_record(tests={"a": test, "b": test})
    reordered = make_record(tests={"b": test, "a": test})
    assert to_text(record) == to_text(reordered)
    assert list(json.loads(to_text(record))) == [
        "schema", "recorded", "provenance", "model", "config", "machine", "session", "tests",
    ]  # fmt: skip


def test_non_ascii_names_stay_readable(make_record: Any) -> None:
    assert "test_short_answer[ünï-1]" in to_text(make_record())


def test_a_name_that_is_not_unicode_survives_the_round_trip(make_record: Any) -> None:
    (test,) = make_record().tests.values()
    text = to_text(make_record(tests={"tests/caf\udce9.py::test_x": test}))
    assert list(from_json(json.loads(text.encode())).tests) == ["tests/caf\udce9.py::test_x"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_no_number_is_not_stored(make_record: Any, value: float) -> None:
    metrics = {"first_token": MetricRecord("s", ((0.4, value),))}
    with pytest.raises(ValueError, match=r"first_token\.samples\[0\]"):
        to_text(make_record(test={"metrics": metrics}))


def test_a_setting_that_is_not_plain_json_is_named(make_record: Any) -> None:
    with pytest.raises(ValueError, match=r"config\.kind: a object cannot be stored"):
        to_text(make_record(config={"kind": object()}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@given(json_values)
def test_dumping_what_was_parsed_changes_nothing(value: Any) -> None:
    text = dumps(value)
    assert dumps(json.loads(text)) == text
