"""Send one load from one engine process, check it, and turn it into a run."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import NamedTuple

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities
from pytest_llmperf.measure.load_metrics import LoadFigures, good_answers, load_figures
from pytest_llmperf.measure.load_validity import load_findings, restart_finding
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.run import Run


class LoadRun(NamedTuple):
    """Measurements of a load.

    Attributes:
        run: the run of its complete answers.
        figures: its distributions, rates and errors.
        findings: findings that make them void.
    """

    run: Run
    figures: LoadFigures
    findings: list[FitnessFinding]


def warm_up_load(client: EngineClient, workload: Workload, seed: int) -> Run:
    """Send a short load that warms up the server.

    Raises:
        EngineError: the server does not count the tokens of its answers.
    """
    pattern = workload.load.warmup()
    requests = [recorded.replayed() for recorded in workload.requests]
    return _run(client.load(requests, pattern.schedule(seed)).run())


def send_load(
    client: EngineClient, workload: Workload, seed: int, generated: MutableMapping[str, float]
) -> LoadRun:
    """Send the load once and check it.

    ``generated``: output tokens that already running servers had counted after the previous
    sample (``restart_finding``).

    Raises:
        EngineError: the server does not count the tokens of its answers.
    """
    pattern = workload.load
    requests = [recorded.replayed() for recorded in workload.requests]
    result = client.load(requests, pattern.schedule(seed))
    good = good_answers(result, pattern.limits) if pattern.limits else None
    exact = [request.ignore_eos for request in requests]
    findings = with_severities(
        load_findings(result, max_error_rate=pattern.max_error_rate, exact_lengths=exact),
        {"over_saturated": pattern.over_saturated},
    )
    if not client.kind.restarts and (restart := restart_finding(result.servers, generated)):
        findings.append(restart)
    return LoadRun(_run(result.run(good)), load_figures(result), findings)


def _run(run: Run | None) -> Run:
    if run is None:
        raise EngineError(
            "the server does not report the token count of every answer, and its chunks are not "
            "tokens; use a server version that supports stream_options.include_usage"
        )
    return run
