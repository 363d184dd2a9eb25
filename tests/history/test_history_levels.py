"""The levels kept of a record, and the reason where a record cannot be used."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from history_projects import KEY, LONG, SHORT, record_of, test_of
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.file_damage import damaged
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.baselines.json_text import parse
from pytest_llmperf.baselines.record import BaselineRecord, MetricRecord, to_text
from pytest_llmperf.history import levels, record_json
from pytest_llmperf.history.levels import SessionLevels
from pytest_llmperf.request_digest import RequestDigest

COMMIT = "0123456789abcdef0123456789abcdef01234567"

numbers = st.floats(1e-6, 1e9)
metric = st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=5)


@pytest.fixture(params=["json", "orjson"], autouse=True, scope="module")
def parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with and without the faster parser."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "orjson":
            pytest.importorskip("orjson")
        else:
            patch.setitem(sys.modules, "orjson", None)
        record_json.fast_parser.cache_clear()
        yield
    record_json.fast_parser.cache_clear()


#: Replacements of a metric's unit by text that JSON allows but a stored file may not hold.
EXTRAS = (
    '"unit": "s", "unit": "s"',
    '"unit": "s", "more": 123456789012345678901234567890',
    '"unit": "s", "more": -123456789012345678901234567890',
    '"unit": "s", "more": 12345678901234567890',
    '"unit": "s", "more": [1e999]',
    '"unit": "s", "more": NaN',
    '"unit": "s", "more": {"samples": {"a": 1, "a": 2}}',
    '"unit": "s", "more": "\\\\", "more": "\\""',
    '"unit": "s", "more": "\\ud800"',
    '"unit": "s", "more": "\\""',
    '"unit" : "s"',
)


def refuse(*_: object) -> None:
    raise ValueError


def read(text: str | bytes) -> SessionLevels:
    return levels.read_levels(text if isinstance(text, bytes) else text.encode())


def with_samples(*samples: Any) -> BaselineRecord:
    """Return a record of one test, with a metric for each argument."""
    named = {
        f"metric_{i}": MetricRecord("s", tuple(map(tuple, runs))) for i, runs in enumerate(samples)
    }
    return replace(record_of(1, COMMIT), tests={SHORT: test_of(1.0, metrics=named)})


@given(st.lists(metric, min_size=1, max_size=4))
def test_a_level_is_the_median_over_processes_of_medians(samples: list[Any]) -> None:
    text = to_text(with_samples(*samples))
    metrics = json.loads(text)["tests"][SHORT]["metrics"].values()
    expected = [median([median(process) for process in m["samples"]]) for m in metrics]
    assert read(text).values.tolist() == expected


def test_what_a_session_is_about_is_kept() -> None:
    record = record_of(3, None, dirty=True, workload="w9", accepted="why", invalid=("busy",))
    session = read(to_text(record))
    assert (session.recorded, session.commit, session.dirty) == ("2026-01-04T12:00:00Z", None, True)
    assert (session.machine, session.model, session.sha256) == (KEY, "smollm2-135m", "b1" * 32)
    (part,) = session.tests
    assert (part.nodeid, part.workload, part.accepted) == (SHORT, "w9", "why")
    assert part.invalid
    assert part.metrics == (("first_token", "s"), ("tokens_per_sec", "tok/s"))


def test_every_test_is_kept() -> None:
    session = read(to_text(record_of(1, COMMIT, names=(SHORT, LONG))))
    assert sorted(part.nodeid for part in session.tests) == sorted((SHORT, LONG))
    assert session.values[:2] == session.values[2:]


def test_a_record_in_another_form_is_read_as_well() -> None:
    text = to_text(record_of(1, COMMIT))
    compact = json.dumps(json.loads(text))
    assert read(text) == read(compact) == read(text.replace("\n", "\r\n"))


def test_whole_numbers_and_half_surrogate_pairs_are_read() -> None:
    text = to_text(record_of(1, COMMIT, names=("t[x]",)))
    session = read(text.replace("85.085", "87").replace("t[x]", r"t[\udcff]"))
    assert session.tests[0].nodeid == "t[\udcff]"
    assert 86.0 not in read(text).values
    assert session.values[1] == median([86.0, median([84.915, 85.0])])


def test_a_record_without_tests_is_an_empty_session() -> None:
    assert read(to_text(record_of(1, COMMIT, names=()))).values.tolist() == []


def outcome(text: str) -> SessionLevels | str:
    """Return the levels read from a text, or the message of the refusal."""
    try:
        return read(text)
    except ValueError as error:
        return str(error)


def whole_record() -> str:
    """Return a record with everything that a record can hold."""
    asked = {"prompt": [1, 2, 3], "cache": "clear", "stream": False, "seed": 7, "evaluated": 3}
    request = RequestDigest.of({**asked, "sampling": {}, "grammar": None, "output_tokens": 4})
    counted = {
        "first_token": MetricRecord("s", ((0.4, 0.41),)),
        "gpu_utilization": MetricRecord("%", ((0.0, 0.5),)),
        "of_a_newer_plugin": MetricRecord("x", ((0.0, 1e-9),)),
    }
    tests = {
        SHORT: test_of(80.0, accepted='a "reason" \\', requests=(request,)),
        LONG: test_of(1.0, metrics=counted, invalid=("busy",)),
    }
    return to_text(replace(record_of(1, COMMIT), tests=tests))


def test_a_record_as_it_is_written_is_not_read_number_by_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = read(whole_record())
    monkeypatch.setattr(record_json, "parse", refuse)
    assert read(whole_record()) == expected


def test_whatever_becomes_of_a_value_it_is_read_or_refused_as_every_other_reader_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, file = whole_record(), tmp_path / "x.json"
    texts = [text, *(variant.text for variant in damaged(text))]
    texts += [text.replace('"unit": "s"', extra, 1) for extra in EXTRAS]
    assert len(texts) > 200
    outcomes = [outcome(variant) for variant in texts]
    monkeypatch.setattr(record_json, "fast_parser", lambda: parse)
    monkeypatch.setattr(record_json, "_check_quickly", refuse)
    for variant, expected in zip(texts, outcomes, strict=True):
        assert outcome(variant) == expected, variant
        file.write_text(variant)
        with nullcontext() if isinstance(expected, SessionLevels) else pytest.raises(BaselineError):
            read_record(file)


def changed(path: str, value: Any) -> str:
    data = json.loads(to_text(record_of(1, COMMIT)))
    inner = data
    *parents, last = path.split("/")
    for key in parents:
        inner = inner[SHORT if key == "*" else key]
    inner[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff{}", "not UTF-8"),
        ("", "not JSON"),
        ('{"schema": 1,', "not JSON"),
        ("<<<<<<< HEAD\n{}", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a record"),
        ("{}", "not a record"),
        (changed("schema", 2), "newer plugin"),
        (changed("schema", True), "not a record"),
        (changed("recorded", "yesterday"), "recorded: expected a UTC time"),
        (changed("recorded", 5), "recorded: expected a string"),
        (changed("provenance/commit", "../../x"), "provenance.commit: expected"),
        (changed("provenance/dirty", 1), "provenance.dirty: expected true or false"),
        (changed("machine/key", "../x"), "machine"),
        (changed("model/name", None), "model.name: expected a string"),
        (changed("session/seed", "x"), "session.seed: expected an integer"),
        (changed("tests", []), "tests"),
        (changed("tests/*/workload", 1), ".workload: expected a string"),
        (changed("tests/*/accepted", 1), ".accepted: expected a string"),
        (changed("tests/*/invalid", {}), ".invalid: expected a list"),
        (changed("tests/*/metrics/first_token/unit", None), ".unit: expected a string"),
        (changed("tests/*/metrics/first_token/samples", []), "at least one process"),
        (changed("tests/*/metrics/first_token/samples", [[1.0], []]), "at least one"),
        (changed("tests/*/metrics/first_token/samples", [[True]]), "expected a number"),
    ],
)
def test_a_broken_record_is_refused_with_the_reason(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[85.0, 85.085]", "[85.0, -1.0]"),
        ("[85.0, 85.085]", "[85.0, 0.0]"),
        ("[85.0, 85.085]", "[85.0, 1e999]"),
        ("[85.0, 85.085]", "[85.0, NaN]"),
        ("[85.0, 85.085]", '[85.0, "85.085"]'),
        ("[85.0, 85.085]", "[85.0, null]"),
        ("[85.0, 85.085]", "[85.0, [1.0, 2.0]]"),
        ("[85.0, 85.085]", "[]"),
        ("[85.0, 85.085]", "[85.0, 85.085"),
        ("[85.0, 85.085]", "[85.0 85.085]"),
    ],
)
def test_a_record_with_impossible_numbers_is_refused(old: str, new: str) -> None:
    text = to_text(record_of(1, COMMIT))
    assert old in text
    with pytest.raises(ValueError, match=r"samples|not JSON|too large a number|not a number"):
        read(text.replace(old, new))
