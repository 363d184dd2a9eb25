"""Comparison of fingerprints of the same hardware, used by different engine backends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.fingerprint import MEMORY_TOLERANCE, Machine, same

#: Items that have to agree with any backend.
_HOST = (
    "cpu",
    "usable cores",
    "cpu family/model/stepping",
    "cpu instructions",
    "memory GiB",
)
#: Items of a fingerprint with a list over the GPUs.
_CARD = ("gpus", "gpu memory GiB", "gpu MIG profile", "gpu power limit W")
#: GPUs emulated on the CPU.
_SOFTWARE = re.compile(r"llvmpipe|lavapipe|swiftshader", re.IGNORECASE)


def same_hardware(current: Machine, stored: Machine) -> bool:
    """Whether ``stored`` is the same hardware, but used by another engine backend.

    CPU, usable cores and memory have to agree, and every GPU that the baseline used, or saw,
    has to be in this machine. A baseline without a list of GPUs does not match a machine with
    one. An application's backend is unknown.
    """
    backend, stored_backend = (machine.strict.get("backend") for machine in (current, stored))
    if UNKNOWN_BACKEND in (backend, stored_backend) or None in (backend, stored_backend):
        return False
    ours = {**current.info, **current.strict}
    baseline = {**stored.info, **stored.strict}
    hidden = "gpus" in stored.strict and "gpus" not in current.strict
    if backend == stored_backend and not hidden:
        return False
    if not all(
        item in ours and item in baseline and same(ours[item], baseline[item], _tolerance(item))
        for item in _HOST
    ):
        return False
    present, used = _cards(current.present), _cards(baseline)
    if present and not used:
        return False
    for card in used:
        found = next((i for i, one in enumerate(present) if _is(one, card)), None)
        if found is None:
            return False
        del present[found]
    return True


def _cards(items: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the items of each hardware GPU of a fingerprint."""
    names = items.get("gpus", [])
    columns = [items.get(item, [None] * len(names)) for item in _CARD]
    if not all(isinstance(column, list) and len(column) == len(names) for column in columns):
        return [(None,)]  # not a valid fingerprint: equals nothing
    return [card for card in zip(*columns, strict=True) if not _SOFTWARE.search(str(card[0]))]


def _is(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(
        same(a, b, _tolerance(item)) for item, a, b in zip(_CARD, one, other, strict=True)
    )


def _tolerance(item: str) -> float:
    return MEMORY_TOLERANCE if "memory" in item else 0.0
