"""What is kept of a record: medians of medians, and a reason where it cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from history_projects import KEY, LONG, SHORT, record_of, test_of
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.baselines.record import BaselineRecord, MetricRecord, to_text
from pytest_llmperf.history.digest import Digester
from pytest_llmperf.history.sessions import Sessions, from_bytes, to_bytes

COMMIT = "0123456789abcdef0123456789abcdef01234567"

numbers = st.floats(1e-6, 1e9)
metric = st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=5)


@pytest.fixture(params=["json", "orjson"], autouse=True, scope="module")
def loader(request: pytest.FixtureRequest) -> Iterator[None]:
    """With and without the faster parser."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
        yield
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pytest_llmperf.history.digest.json_loader", lambda: json.loads)
            yield


def digest(*texts: str | bytes) -> Sessions:
    digester = Digester()
    for number, text in enumerate(texts):
        digester.add(str(number), text if isinstance(text, bytes) else text.encode())
    return digester.finish()


def reason(text: str | bytes) -> str:
    """Why a record is refused, as the first one, and as one of a kind that was seen before."""
    alone = digest(text)
    assert alone.rows == []
    after = digest(to_text(record_of(1, COMMIT)), text)
    assert [row.source for row in after.rows] == ["0"]
    assert after.bad["1"] == alone.bad["0"]
    return alone.bad["0"]


def with_samples(*samples: Any) -> BaselineRecord:
    """A record of one test with a metric for each of the samples."""
    named = {
        f"metric_{i}": MetricRecord("s", tuple(map(tuple, one))) for i, one in enumerate(samples)
    }
    return replace(record_of(1, COMMIT), tests={SHORT: test_of(1.0, metrics=named)})


@given(st.lists(st.lists(metric, min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_level_is_the_median_over_processes_of_medians(records: list[Any]) -> None:
    texts = [to_text(with_samples(*samples)) for samples in records]
    found = digest(*texts)
    for text, values in zip(texts, found.values, strict=True):
        metrics = json.loads(text)["tests"][SHORT]["metrics"].values()
        expected = [median([median(process) for process in one["samples"]]) for one in metrics]
        assert values.tolist() == expected


def test_a_record_of_a_known_kind_is_read_as_the_first_of_its_kind() -> None:
    texts = [to_text(record_of(n, COMMIT, 80.0 + n, names=(SHORT, LONG))) for n in range(3)]
    together, alone = digest(*texts), [digest(text) for text in texts]
    assert together.layouts == alone[0].layouts
    assert [row._replace(source="0") for row in together.rows] == [one.rows[0] for one in alone]
    assert together.values == [one.values[0] for one in alone]


def test_what_a_session_is_about_is_kept() -> None:
    record = record_of(3, None, dirty=True, workload="w9", accepted="why", invalid=("busy",))
    (row,), ((part,),) = (found := digest(to_text(record))).rows, found.layouts
    assert (row.recorded, row.commit, row.dirty) == ("2026-01-04T12:00:00Z", None, True)
    assert (row.machine, row.model, row.sha256) == (KEY, "smollm2-135m", "b1" * 32)
    assert (part.nodeid, part.workload, part.accepted) == (SHORT, "w9", "why")
    assert part.invalid == ("busy",)
    assert part.metrics == (("first_token", "s"), ("tokens_per_sec", "tok/s"))


def test_records_of_several_kinds_are_told_apart() -> None:
    one, other = record_of(1, COMMIT), record_of(1, COMMIT, workload="w2", names=(LONG,))
    found = digest(*[to_text(record) for record in (one, other, one, other)])
    kinds = [found.layouts[row.layout][0] for row in found.rows]
    assert [(kind.nodeid, kind.workload) for kind in kinds] == [(SHORT, "w1"), (LONG, "w2")] * 2


def test_records_that_differ_between_their_numbers_only_are_told_apart() -> None:
    one = to_text(record_of(1, COMMIT, names=(SHORT, LONG)))
    head, _, tail = one.rpartition('"w1"')
    other = f'{head}"w2"{tail}'
    found = digest(one, one, other, one, other)
    kinds = [[part.workload for part in found.layouts[row.layout]] for row in found.rows]
    same, differs = ["w1", "w1"], ["w1", "w2"]
    assert kinds == [same, same, differs, same, differs]


@pytest.mark.parametrize("end", ["", "}", "}\n}\n}\n"])
def test_a_record_with_another_end_is_not_of_a_known_kind(end: str) -> None:
    text = to_text(record_of(1, COMMIT))
    found = digest(text, text, text[:-4] + end)
    assert len(found.rows) == 2
    assert "not JSON" in found.bad["2"]


def test_tests_that_differ_in_blanks_only_are_told_apart() -> None:
    texts = [to_text(record_of(1, COMMIT, names=(name,))) for name in ("t[a b]", "t[ab]")]
    found = digest(*texts, *texts)
    names = [found.layouts[row.layout][0].nodeid for row in found.rows]
    assert names == ["t[a b]", "t[ab]"] * 2


def test_a_record_in_another_form_is_read_all_the_same() -> None:
    text = to_text(record_of(1, COMMIT))
    plain, compact, crlf = digest(
        text, json.dumps(json.loads(text)), text.replace("\n", "\r\n")
    ).values
    assert plain == compact == crlf


def test_a_record_without_tests_is_an_empty_session() -> None:
    found = digest(to_text(record_of(1, COMMIT, names=())))
    assert [value.tolist() for value in found.values] == [[]]


def changed(path: str, value: Any) -> str:
    data = json.loads(to_text(record_of(1, COMMIT)))
    inner = data
    *parents, last = path.split("/")
    for key in parents:
        inner = inner[key]
    inner[last] = value
    # Indented as records are, so that it looks like one of a known kind.
    return json.dumps(data, indent=2)


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
        (changed("tests", []), "tests"),
    ],
)
def test_a_broken_record_is_left_out_with_the_reason(text: str | bytes, said: str) -> None:
    assert said in reason(text)


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
def test_a_record_with_impossible_numbers_is_left_out(old: str, new: str) -> None:
    text = to_text(record_of(1, COMMIT))
    assert old in text
    assert reason(text.replace(old, new))


def test_what_is_not_there_is_left_out() -> None:
    digester = Digester()
    digester.add("x", None)
    assert "not here" in digester.finish().bad["x"]


def test_other_records_are_read_beside_a_broken_one() -> None:
    good = to_text(record_of(1, COMMIT))
    bad = good.replace("[85.0, 85.085]", "[85.0, 1e999]")
    found = digest(*[good] * 70, bad, *[good] * 70)
    assert len(found.rows) == 140
    assert list(found.bad) == ["70"]


def test_packed_sessions_are_the_same_unpacked() -> None:
    texts = [to_text(record_of(n, COMMIT, names=(SHORT, "t[\udcff]")[: n + 1])) for n in range(2)]
    found = digest(*texts, "broken")
    assert from_bytes(to_bytes(found)) == found


@pytest.mark.parametrize("damage", [slice(None, -8), slice(5, None), slice(0, 0)])
def test_damaged_packed_sessions_are_refused(damage: slice) -> None:
    packed = to_bytes(digest(to_text(record_of(1, COMMIT))))
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        from_bytes(packed[damage])


def test_sessions_of_two_readers_share_what_they_have_in_common() -> None:
    one = digest(to_text(record_of(1, COMMIT)), to_text(record_of(1, COMMIT, names=(LONG,))))
    other = digest(to_text(record_of(2, COMMIT, names=(LONG,))))
    one.extend(other)
    assert len(one.layouts) == 2
    assert [one.layouts[row.layout][0].nodeid for row in one.rows] == [SHORT, LONG, LONG]
    kept = one.only({"0"})
    assert [row.source for row in kept.rows] == ["0", "0"]
