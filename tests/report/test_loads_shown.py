"""A report's lines about a test's loads and about the client that sent them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.measure.load_metrics import LatencyDistribution, LoadFigures
from pytest_llmperf.measure.load_pattern import LoadPattern
from pytest_llmperf.measure.samples import ProcessSample
from pytest_llmperf.session.shown_load import shown_load

PATTERN = LoadPattern("poisson", rate=4.0, requests=20)


def latency(*seconds: float) -> LatencyDistribution:
    distribution = LatencyDistribution.of(seconds)
    assert distribution is not None
    return distribution


def figures(*, busy: float, first: float = 0.2, last: float = 1.0) -> LoadFigures:
    return LoadFigures(
        requests=20,
        answered=20,
        seconds=5.0,
        output_tokens=320,
        from_schedule={},
        since_sent={"first_token": latency(first), "end_to_end": latency(last)},
        chunk_gap=None,
        slip=None,
        faults={},
        client_busy=busy,
    )


def line(*loads: LoadFigures) -> str:
    samples = [ProcessSample(number, (), load=load) for number, load in enumerate(loads)]
    shown = shown_load(PATTERN, samples)
    assert shown is not None
    return shown.lines[0]


def test_both_latencies_stand_beside_those_from_when_requests_were_due() -> None:
    three = [figures(busy=0.1, first=seconds, last=5 * seconds) for seconds in (0.3, 0.1, 0.2)]
    assert "; since sending: first token 0.2 s and request latency 1 s; " in line(*three)


def test_what_nobody_answered_has_no_latency() -> None:
    assert "since sending" not in line(replace(figures(busy=0.1), since_sent={}))


@pytest.mark.parametrize(
    ("busy", "text"),
    [
        ((0.1, 0.08), "the client used 10% of a core (ceiling: about 40 such requests/s)"),
        ((0.00031,), "the client used 0.03% of a core (ceiling: about 13,000 such requests/s)"),
        ((0.0,), "the client used 0% of a core"),
    ],
)
def test_the_clients_ceiling_is_that_of_its_busiest_load(
    busy: tuple[float, ...], text: str
) -> None:
    assert line(*(figures(busy=share) for share in busy)).endswith(f"; {text}")


def test_several_client_processes_are_counted() -> None:
    assert "; the busiest of 2 client processes used 10% of a core" in line(
        replace(figures(busy=0.1), client_processes=2)
    )
