"""Random order of a round's tests that keeps tests with the same engine settings together."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pytest_llmperf.engine.launch import LaunchSpec

_Key = Callable[[str], str]


def shuffled(
    nodeids: Sequence[str], specs: Mapping[str, LaunchSpec], order: random.Random
) -> list[str]:
    """Return the tests in random order, with as few changes of engine settings as possible.

    Tests that one process can serve without loading again stay together; within them, so do tests
    with the same context. The groups are in random order, and so are the tests in each.

    Args:
        nodeids: the tests.
        specs: their engine settings, by node id; tests without settings form a group.
        order: the source of randomness.
    """
    return _shuffled(nodeids, (_process_key(specs), _context_key(specs)), order)


def processes_per_round(nodeids: Collection[str], specs: Mapping[str, LaunchSpec]) -> int:
    """Return the number of processes per side that it takes to replay all tests once."""
    return max(len(set(map(_process_key(specs), nodeids))), 1)


def one_per_process(specs: Iterable[LaunchSpec]) -> list[LaunchSpec]:
    """Return one spec from each group whose tests share a process."""
    return list({_text(spec.process_settings): spec for spec in specs}.values())


def _shuffled(nodeids: Sequence[str], keys: Sequence[_Key], order: random.Random) -> list[str]:
    if not keys:
        return order.sample(nodeids, len(nodeids))
    groups: dict[str, list[str]] = {}
    for nodeid in nodeids:
        groups.setdefault(keys[0](nodeid), []).append(nodeid)
    mixed = order.sample(list(groups.values()), len(groups))
    return [nodeid for group in mixed for nodeid in _shuffled(group, keys[1:], order)]


def _process_key(specs: Mapping[str, LaunchSpec]) -> _Key:
    return lambda nodeid: _text(specs[nodeid].process_settings) if nodeid in specs else ""


def _context_key(specs: Mapping[str, LaunchSpec]) -> _Key:
    return lambda nodeid: _text(specs[nodeid].config) if nodeid in specs else ""


def _text(settings: Mapping[str, object]) -> str:
    return json.dumps(settings, sort_keys=True)
