"""Whether two fingerprints are of the same hardware, used by two engine backends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.fingerprint import MEMORY_TOLERANCE, Machine, same

#: What has to agree whatever computes.
_HOST = (
    "cpu",
    "usable cores",
    "cpu family/model/stepping",
    "cpu instructions",
    "memory GiB",
)
#: What a fingerprint says of each GPU, one list each.
_CARD = ("gpus", "gpu memory GiB", "gpu MIG profile", "gpu power limit W")
#: GPUs that are programs on the CPU.
_SOFTWARE = re.compile(r"llvmpipe|lavapipe|swiftshader", re.IGNORECASE)


def same_hardware(current: Machine, stored: Machine) -> bool:
    """Whether ``stored`` is this very hardware, and only the engine's use of it is another.

    The processor, its usable cores and memory agree, and every GPU that the baseline used, or
    saw, is in this machine now. A baseline that does not say what GPUs there were is not known
    to be of a machine that has one. An application's backend is its own business.
    """
    here, there = (machine.strict.get("backend") for machine in (current, stored))
    if UNKNOWN_BACKEND in (here, there) or None in (here, there):
        return False
    mine, theirs = {**current.info, **current.strict}, {**stored.info, **stored.strict}
    hidden = "gpus" in stored.strict and "gpus" not in current.strict
    if here == there and not hidden:
        return False
    if not all(
        item in mine and item in theirs and same(mine[item], theirs[item], _tolerance(item))
        for item in _HOST
    ):
        return False
    present, used = _cards(current.present), _cards(theirs)
    if present and not used:
        return False
    for card in used:
        found = next((i for i, one in enumerate(present) if _is(one, card)), None)
        if found is None:
            return False
        del present[found]
    return True


def _cards(items: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the hardware GPUs of a fingerprint, what is known of each."""
    names = items.get("gpus", [])
    columns = [items.get(item, [None] * len(names)) for item in _CARD]
    if not all(isinstance(column, list) and len(column) == len(names) for column in columns):
        return [(None,)]  # no fingerprint of ours: equals nothing
    return [card for card in zip(*columns, strict=True) if not _SOFTWARE.search(str(card[0]))]


def _is(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(
        same(a, b, _tolerance(item)) for item, a, b in zip(_CARD, one, other, strict=True)
    )


def _tolerance(item: str) -> float:
    return MEMORY_TOLERANCE if "memory" in item else 0.0
