"""Reads a record's JSON as strictly as other readers, in a fifth of the time.

``json_text.parse`` and ``record.from_json`` check every number separately: 2 ms for a record of
a thousand samples. Here a record in the usual form is parsed by a faster parser, and the samples of
each test are checked together. Any other record is read by those two, which accept it or report
the problem.
"""

from __future__ import annotations

import json
from ast import literal_eval
from contextlib import suppress
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

from pytest_llmperf.baselines.json_text import explain_error, parse
from pytest_llmperf.baselines.record import SCHEMA_VERSION, from_json, is_measurable
from pytest_llmperf.metrics import LARGEST, SMALLEST, known_metric
from pytest_llmperf.request_digest import StoredDigest
from pytest_llmperf.stored_json import ShapeError, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Numbers beyond this may be integers that the fast parser has rounded.
_WHOLE = float(1 << 63)


def read_json(text: bytes) -> Any:
    """Return the JSON of a record.

    Raises:
        ValueError: it is not a record that this version reads; says why and, where restoring
            the file would not help, the fix on a second line.
    """
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        data = fast_parser()(text)
        _check_quickly(data, text)
        return data
    try:
        data = parse(text)
    except ValueError as error:
        raise ValueError(explain_error(error)) from None
    _check_schema(data)
    from_json(data)
    return data


@cache
def fast_parser() -> Callable[[bytes], Any]:
    """Return a JSON parser: orjson if it is installed, as it takes a third of the time."""
    try:
        import orjson
    except ImportError:
        return partial(json.loads, parse_constant=_refuse)
    loads: Callable[[bytes], Any] = orjson.loads
    return loads


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _check_schema(data: Any) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ShapeError(f"not a record of a session: schema: got {schema!r}")
    if schema > SCHEMA_VERSION:
        raise ShapeError(
            f"written by a newer plugin (schema {schema}; this one reads up to {SCHEMA_VERSION})\n"
            "upgrade the plugin: pip install --upgrade pytest-llmperf"
        )


def _check_quickly(data: Any, text: bytes) -> None:
    """Check a record that a fast parser has parsed.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is not in the usual form, and may
            still be valid.
    """
    _check_schema(data)
    tests = data["tests"]
    about = {**data, "tests": {}}
    from_json(about)
    texts = _count_texts(about) + len(tests) + sum(map(_check_test, tests.values()))
    # A fast parser keeps only one of two equal keys, so the text has more quotes than expected.
    if 2 * texts != _count_quotes(text):
        raise ValueError("a key appears twice in one object")


def _check_test(test: Mapping[str, Any]) -> int:
    """Check a test's samples together, and return the number of strings in the test.

    Raises:
        As ``_check_quickly``.
    """
    metrics = test["metrics"]
    lists = [test["invalid"], *(metric["samples"] for metric in metrics.values())]
    processes = [process for samples in lists[1:] for process in samples]
    numbers = [number for process in processes for number in process]
    texts = [test["workload"], test["summary"], *test["invalid"], test.get("accepted", "")]
    if not (
        set(map(type, texts)) == {str}
        and set(map(type, [*lists, *processes])) == {list}
        and all(lists[1:])
        and all(processes)
        and set(map(type, numbers)) <= {float}
        and max(numbers, default=1.0) <= LARGEST
        and (min(numbers, default=1.0) >= SMALLEST or all(map(_zeros_are_right, metrics.items())))
        and all(map(_has_its_unit, metrics.items()))
    ):
        raise ValueError("unusual")
    if "requests" in test:
        _check_requests(repr(test["requests"]))
    return _count_texts({**test, "metrics": {}}) + 4 * len(metrics)


@lru_cache(maxsize=1000)
def _check_requests(written: str) -> None:
    """Check a test's requests, given as their repr: cached, as most sessions have the same."""
    read(cast("Any", tuple[StoredDigest, ...]), literal_eval(written))


def _has_its_unit(metric: tuple[str, Mapping[str, Any]]) -> bool:
    """Whether a metric is stored in the unit that it is defined with."""
    name, stored = metric
    known = known_metric(name)
    unit = stored["unit"]
    return unit == known.unit.value if known else type(unit) is str


def _zeros_are_right(metric: tuple[str, Mapping[str, Any]]) -> bool:
    """Whether the samples of a metric that are zero or nearly zero are possible values."""
    name, stored = metric
    small = {n for process in stored["samples"] for n in process if n < SMALLEST}
    return all(is_measurable(number, name) for number in small)


def _count_texts(data: Any) -> int:
    """Return the number of strings in JSON, keys included.

    Raises:
        ValueError: a number may have been rounded.
    """
    kind = type(data)
    if kind is str:
        return 1
    if kind is dict:
        return len(data) + sum(map(_count_texts, data.values()))
    if kind is list:
        return sum(map(_count_texts, data))
    if kind in (int, float) and not -_WHOLE < data < _WHOLE:
        raise ValueError(data)
    return 0


def _count_quotes(text: bytes) -> int:
    """Return the number of quotes that begin or end a string, without escaped ones."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')
