"""Which cards a session holds while its engines run."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.engine.launch import LaunchSpec


def cards_of(specs: Sequence[LaunchSpec]) -> Collection[str] | None:
    """Return the names of the only cards that these engines compute on, None if that is unknown."""
    from pytest_llmperf.machine.gpu.claims import claimed_cards

    found: set[str] = set()
    for spec in specs:
        # Another environment may have another build of llama.cpp, such as one for the CPU.
        if spec.python != sys.executable:
            return None
        cards = claimed_cards(spec.kind.backend_name, spec.config, {**os.environ, **spec.env})
        if cards is None:
            return None
        found.update(cards)
    return found
