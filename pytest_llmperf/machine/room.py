"""Whether a second process like one that is running fits into memory beside it."""

from __future__ import annotations

from pytest_llmperf.machine.free_memory import free_memory

#: What has to stay free besides, for whatever else the machine does.
_SPARE = 512 << 20
#: How much larger than the first the second may be.
_LARGER = 1.25


def has_room_beside(pid: int) -> bool:
    """Whether what a process and its children hold is free once more, with some to spare.

    What they share with others, a mapped model for one, is counted as if it were needed
    twice; False where it cannot be told.
    """
    import psutil

    try:
        one = psutil.Process(pid)
        held = sum(each.memory_info().rss for each in (one, *one.children(recursive=True)))
    except psutil.Error:
        return False
    return free_memory() >= _LARGER * held + _SPARE
