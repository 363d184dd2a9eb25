"""A series as one line of bars, in block characters or, where they can't be shown, in ASCII."""

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
    count = min(width, len(values))
    cuts = np.arange(1, count) * len(values) // count
    drawn = [float(np.median(bar)) for bar in np.split(np.array(values, np.float64), cuts)]
    low, high = min(drawn), max(drawn)
    missing = least * (low + high) / 2 - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    step = (high - low) / len(bars)
    top = len(bars) - 1
    return "".join(bars[min(top, int((value - low) / step)) if step > 0 else 0] for value in drawn)


def column_of(index: int, count: int, width: int) -> int:
    """Return the column in which ``sparkline`` draws a value of ``count``."""
    columns = min(width, count)
    # The last column that starts at or before the value.
    column = min(columns - 1, (index * columns + columns - 1) // count)
    while column * count // columns > index:
        column -= 1
    return column
