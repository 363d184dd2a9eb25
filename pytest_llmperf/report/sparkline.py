"""A series as one line of bars, for terminals that have them and for those that have not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Eight heights.
BLOCKS = "▁▂▃▄▅▆▇█"
#: The same in ASCII, from low to high.
ASCII = "_.-:=+*#"


def bars_for(encoding: str | None) -> str:
    """Return the bars that an encoding can show."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(
    values: Sequence[float] | NDArray[np.float64], width: int, least: float, bars: str = BLOCKS
) -> str:
    """Draw values, at most one bar per value and ``width`` in all.

    Where there are more values than bars, a bar is the median of its values. The lowest bar
    is the least and the highest the greatest; they lie apart at least the share ``least`` of
    the middle, so that noise does not look like a mountain range. Empty for no values.
    """
    if not len(values):
        return ""
    drawn = _middles(np.asarray(values, np.float64), min(width, len(values)))
    low, high = min(drawn), max(drawn)
    missing = least * (low + high) / 2 - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    step = (high - low) / len(bars)
    top = len(bars) - 1
    return "".join(bars[min(top, int((value - low) / step)) if step > 0 else 0] for value in drawn)


def _middles(values: NDArray[np.float64], count: int) -> list[float]:
    """Return the medians of ``count`` runs of values, which differ in length by one at most."""
    ends = np.arange(count + 1) * len(values) // count
    starts, lengths = ends[:-1], np.diff(ends)
    middles = np.empty(count)
    for length in {*lengths.tolist()}:
        same = np.flatnonzero(lengths == length)
        ordered = np.sort(values[starts[same][:, None] + np.arange(length)], axis=1)
        middles[same] = (ordered[:, (length - 1) // 2] + ordered[:, length // 2]) / 2
    found: list[float] = middles.tolist()
    return found


def column_of(index: int, count: int, width: int) -> int:
    """Return the column in which ``sparkline`` draws a value of ``count``."""
    columns = min(width, count)
    # The last column that starts at or before the value.
    column = min(columns - 1, (index * columns + columns - 1) // count)
    while column * count // columns > index:
        column -= 1
    return column
