"""Share of the prompts that a server took from its cache, and its difference between two sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.process_sample import BASE, ProcessSample, with_finding

#: Allowed difference between two sides' shares: their requests find the cache in different states.
_SHARES_APART = 0.1

#: Prompt tokens that a cache served, and prompt tokens in all.
_Counts = tuple[int | None, int | None]


def cache_share(
    answers: Iterable[_Counts], servers: Iterable[ServerSide | None] = ()
) -> float | None:
    """Return the share of the prompt tokens that caches served; None if unknown.

    Args:
        answers: each answer's own counts.
        servers: the servers' own counters, which count requests of any sender. They decide only
            if an answer does not report its counts.
    """
    counted = (
        (None, None) if side is None else (side.cache_hits, side.cache_queries) for side in servers
    )
    by_answers = _share(answers)
    return _share(counted) if by_answers is None else by_answers


def _share(counts: Iterable[_Counts]) -> float | None:
    served = prompts = 0
    for cached, prompt in counts:
        if cached is None or prompt is None:
            return None
        served += cached
        prompts += prompt
    return served / prompts if prompts else None


def unknown_use(severity: Severity, *, metrics_asked: bool) -> FitnessFinding:
    """Return the finding that it is unknown how much of the prompts a cache served.

    ``metrics_asked``: whether the servers' own counters were read, and do not say it either.
    """
    who, how = "its answers do not say", ""
    if metrics_asked:
        who, how = "neither its answers nor its /metrics say", "let it publish /metrics, or "
    return FitnessFinding(
        "cache_unknown",
        severity,
        f"how much of the prompts the server took from its cache is unknown: {who}; {how}start "
        "vLLM with --enable-prompt-tokens-details, SGLang with --enable-cache-report",
    )


def void_if_cache_use_differs(
    halves: Sequence[ProcessSample], severities: Mapping[str, Severity]
) -> list[ProcessSample]:
    """Return the samples of a pair, void if the two servers' caches served different shares.

    Args:
        halves: samples of the pair; any other number of samples is returned unchanged.
        severities: severity by check, as configured in ``perf.fitness``.
    """
    shares = {half.side: half.cache_share for half in halves if half.cache_share is not None}
    if len(shares) < 2 or max(shares.values()) - min(shares.values()) < _SHARES_APART:
        return list(halves)
    base = shares.pop(BASE)
    (candidate,) = shares.values()
    text = (
        f"caches served {candidate:.0%} of the candidate's prompt tokens and {base:.0%} of the "
        "base side's, so the two sides did different work; give both servers the same cache, or "
        "none; perf.fitness.cache_hits_differ: note judges the difference"
    )
    evidence = {"candidate": candidate, "base": base}
    finding = FitnessFinding("cache_hits_differ", "invalid", text, evidence)
    return with_finding(halves, finding, severities)
