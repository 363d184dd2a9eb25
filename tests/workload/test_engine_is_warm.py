from __future__ import annotations

import pytest

from pytest_llmperf.measure.warmup import is_warm


@pytest.mark.parametrize(
    ("durations", "warm"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 1.0], True),
        ([1.0, 1.3], True),
        ([2.0, 1.0], False),
        ([2.0, 1.0, 0.99], True),
        ([2.0, 1.0, 0.9], False),
        ([2.0, 1.0, 0.9, 0.8], True),
    ],
)
def test_warm_is_no_longer_clearly_faster_than_before(durations: list[float], warm: bool) -> None:
    assert is_warm(durations, max_iterations=4) is warm


def test_one_is_enough_if_no_more_are_allowed() -> None:
    assert is_warm([5.0], max_iterations=1)


def test_there_is_always_one() -> None:
    assert not is_warm([], max_iterations=0)
