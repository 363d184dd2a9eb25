"""Refuses misspelled names of our markers: such tests or targets would not be judged."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pytest

from pytest_llmperf.plugin.marker_lines import marker_line
from pytest_llmperf.plugin.markers import MARKERS
from pytest_llmperf.plugin.options import usage_error

#: Names at least this similar to a marker's are misspellings: ``token_per_sec`` has 0.96.
_SIMILAR = 0.8


def refuse_misspelled_markers(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Refuse an unregistered marker that is nearly one of ours.

    Args:
        config: pytest's configuration; a marker that it registers is the project's own.
        items: the tests that use the engine.

    Raises:
        pytest.UsageError: naming each test, its marker, and the one that is probably meant.
    """
    registered = {
        line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")
    }
    wrong: dict[str, None] = {}
    for item in items:
        for name in dict.fromkeys(mark.name for mark in item.iter_markers()):
            near = difflib.get_close_matches(name, MARKERS, n=1, cutoff=_SIMILAR)
            if name in registered or not near:
                continue
            wrong[
                f"{item.nodeid}: there is no marker {name!r}; did you mean {near[0]!r}? "
                f"(a marker of your own has to be registered){marker_line(item, name)}"
            ] = None
    if wrong:
        raise usage_error("\n".join(wrong))
