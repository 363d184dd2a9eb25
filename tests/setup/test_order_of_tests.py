"""Where several processes share the tests, none of the longest comes last."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from longest_first import LONGEST, ROOT, longest_first


def items_of(file: str, count: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(path=ROOT / file, number=number) for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_each_worker_begins_with_some_of_the_longest_files(workers: int) -> None:
    items = [*items_of("tests/a.py", 50), *items_of("tests/z.py", 51)]
    for file in LONGEST:
        items += items_of(file, 3)
    ordered = longest_first(items, workers)
    assert len(ordered) == len(items)
    assert {id(item) for item in ordered} == {id(item) for item in items}
    begin = 0
    for left in range(workers, 0, -1):
        share = ordered[begin : begin + (len(items) - begin) // left]
        begin += len(share)
        names = [item.path.relative_to(ROOT).as_posix() for item in share]
        longest = LONGEST[workers - left :: workers]
        assert names[: 3 * len(longest)] == [name for name in longest for _ in range(3)]
        assert not {*names[3 * len(longest) :]} & {*LONGEST}


def test_few_tests_are_all_there() -> None:
    items = [*items_of(LONGEST[0], 5), *items_of("tests/a.py", 1)]
    assert len(longest_first(items, 3)) == 6


@pytest.mark.parametrize("file", LONGEST)
def test_the_longest_files_exist(file: str) -> None:
    assert (ROOT / file).is_file()
