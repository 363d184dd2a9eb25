"""Reads the marker ``quality``, at collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.plugin.marker_lines import marker_line
from pytest_llmperf.plugin.markers import (
    QUALITY_ARGUMENTS,
    MarkerError,
    marker_levels,
    refuse_unknown,
)

if TYPE_CHECKING:
    from pytest_llmperf.quality.limits import QualityLimits
    from pytest_llmperf.session.setup import EngineSetup

MARKER = "quality"


def read_quality(item: pytest.Item) -> tuple[QualityLimits | None, list[str]]:
    """Return a test's quality limits, None without a marker, and the problems with the marker.

    The closest marker counts.
    """
    closest = next(marker_levels(item, (MARKER,)), None)
    if closest is None:
        return None, []
    try:
        read = [_read(mark) for mark in closest]
        if any(limits != read[0] for limits in read):
            raise MarkerError(
                "contradicts another quality marker on the same test; put all limits into one "
                "marker"
            )
    except MarkerError as error:
        where = marker_line(item, MARKER)
        return None, [f"{item.nodeid}: marker {MARKER!r} {error}{where}"]
    return read[0], []


def check_reference(setup: EngineSetup) -> list[str]:
    """Return problems with the configured reference and text; nothing is loaded."""
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.quality.errors import QualityError
    from pytest_llmperf.quality.reference import configured_text, reference_spec

    try:
        reference_spec(setup.loaded, setup.spec)
        configured_text(setup.loaded)
    except QualityError as error:
        return [f"marker {MARKER!r}: {error}"]
    except ConfigError as error:
        return [str(error)]
    return []


def _read(mark: pytest.Mark) -> QualityLimits:
    from pytest_llmperf.quality.limits import QualityLimits
    from pytest_llmperf.units import UnitError, parse_fraction

    if mark.args:
        raise MarkerError(f"takes its limits by name: quality(max_kl={mark.args[0]!r})")
    refuse_unknown(mark, set(QUALITY_ARGUMENTS))
    if not mark.kwargs:
        raise MarkerError("needs a limit: quality(max_kl=0.02)")
    limits: dict[str, float] = {}
    for name, value in mark.kwargs.items():
        if name == "max_kl":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
                raise MarkerError(f"max_kl: expected nats above 0 such as 0.02, got {value!r}")
            limits[name] = float(value)
            continue
        try:
            limits[name] = parse_fraction(value)
        except UnitError as error:
            raise MarkerError(f"{name}: {error}") from None
        if limits[name] == 0:
            raise MarkerError(f"{name}: expected a limit above 0, got {value!r}")
    return QualityLimits(**limits)
