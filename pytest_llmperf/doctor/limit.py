"""Roofline of a diagnosed configuration: its speed against the limit of memory bandwidth."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.measure.roofline import Limit
from pytest_llmperf.session.roofline import RooflineMeter, RooflineShare

if TYPE_CHECKING:
    from pytest_llmperf.doctor.checkup import Checkup


def limit_of(checkup: Checkup) -> RooflineShare | None:
    """Return the limit of decoding and the share that was reached.

    None if either is unknown: an application, a machine too busy to measure its
    bandwidth, a workload without a decode step. Call it while no engine is running.
    """
    situation, probe, measured = checkup.situation, checkup.probe, checkup.measured
    info = situation.info if situation is not None else None
    rows = measured.rows.get("tokens_per_sec") if measured is not None else None
    if info is None or probe is None or not rows or checkup.interrupted:
        return None
    meter = RooflineMeter()
    meter.is_asked = True
    meter.prepare(info)
    limit = meter.limit_of(info, probe.workload)
    if not isinstance(limit, Limit):
        return None
    return RooflineShare(limit, limit.share(median(median(row) for row in rows)))
