"""Checks that a load is valid: findings that keep its figures from being judged."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, MutableMapping, Sequence
from statistics import fmean, median

from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.cache_use import cache_share, unknown_use
from pytest_llmperf.measure.load_metrics import slips, values_of
from pytest_llmperf.stats.percentiles import percentile
from pytest_llmperf.units import format_duration

#: This percentile of the client's delays may be at most this share of the time to first token.
_SLIP_PERCENT, _SLIP_SHARE = 95.0, 0.05
#: The event loop's timers alone are up to a millisecond late.
_TIMER_S = 0.001
#: Share of a core from which on the client itself may be the bottleneck: its events queue up.
_BUSY_SHARE = 0.7
#: Minimum share of the requested rate that the client must reach.
_RATE_SHARE = 0.98
#: Standard deviations by which the number of requests in flight must grow, twice.
_GROWTH = 2.0
_QUEUE_LOOKS = 20


def load_findings(
    result: LoadResult, *, max_error_rate: float = 0.01, exact_lengths: Sequence[bool] = (True,)
) -> list[FitnessFinding]:
    """Return the findings that make a load's figures void.

    Args:
        result: result of the load.
        max_error_rate: share of requests that may fail.
        exact_lengths: for each recorded request, whether its answers must have exactly the
            requested number of tokens; requests from a trace are sent like the first one.
    """
    findings = (
        _errors(result, max_error_rate),
        _slip(result),
        _busy(result),
        _rate(result),
        _lengths(result, exact_lengths),
        _cache(result),
        _queue(result),
    )
    return [finding for finding in findings if finding is not None]


def restart_finding(
    servers: Mapping[str, ServerSide | None], generated: MutableMapping[str, float]
) -> FitnessFinding | None:
    """Find a server that was restarted since the session's first sample: its counters fell.

    Args:
        servers: each server's own counters during the sample, by address.
        generated: output tokens that each server had counted after the previous sample, by
            address; updated in place. A restart affects every later sample, too.
    """
    for url, side in servers.items():
        if side is None or side.generated_before is None:
            continue
        fell = side.went_back or side.generated_before < generated.get(url, 0)
        generated[url] = math.inf if fell else side.generated_after or side.generated_before
    restarted = next((url for url in servers if generated.get(url) == math.inf), None)
    if restarted is None:
        return None
    return _void(
        "server_restarted",
        f"the counters of {restarted} fell: it was restarted since the session's first sample, or "
        "several servers answer there; let it run and repeat the measurement, or name each server "
        "in llm.replicas",
    )


def _void(name: str, text: str, **evidence: float) -> FitnessFinding:
    return FitnessFinding(name, "invalid", text, evidence)


def _errors(result: LoadResult, bound: float) -> FitnessFinding | None:
    failed = [outcome for outcome in result.outcomes if outcome.fault is not None]
    rate = len(failed) / len(result.outcomes) if result.outcomes else 0.0
    if rate <= bound:
        return None
    kinds = sorted({outcome.fault for outcome in failed if outcome.fault is not None})
    return _void(
        "failed_requests",
        f"{len(failed)} of {len(result.outcomes)} requests failed ({', '.join(kinds)}); "
        f"at most {100 * bound:g}% may",
        failed=len(failed),
        requests=len(result.outcomes),
    )


def _slip(result: LoadResult) -> FitnessFinding | None:
    firsts = values_of(result.answered, "first_token", "sent")
    if not firsts:
        return None
    bound = max(_SLIP_SHARE * median(firsts), _TIMER_S)
    late = {"the client sent requests late": slips(result)}
    late["the client's event loop was late"] = tuple(
        max(0.0, lag - _TIMER_S) for lag in result.lags
    )
    for problem, values in late.items():
        slip = percentile(values, _SLIP_PERCENT) if values else 0.0
        if slip > bound:
            return _void(
                "client_slip",
                f"{problem}: by {format_duration(slip)} or more in 5% of cases, and the first "
                f"token took {format_duration(median(firsts))}; the client is overloaded: raise "
                "llm.client_processes, use a lighter load, or a machine with a free core",
                slip=slip,
                first_token=median(firsts),
            )
    return None


def _busy(result: LoadResult) -> FitnessFinding | None:
    """Find a client near its limit: its event loop can use only one core."""
    if result.busy < _BUSY_SHARE:
        return None
    return _void(
        "client_busy",
        f"the client used {100 * result.busy:.0f}% of a core, so the client, not the server, may "
        "limit the load; raise llm.client_processes, or use a lighter load",
        busy=result.busy,
    )


def _rate(result: LoadResult) -> FitnessFinding | None:
    """Find a client that sent fewer requests per second than scheduled."""
    if not result.schedule.is_open or len(result.outcomes) < 2:
        return None
    first, last = result.outcomes[0], result.outcomes[-1]
    planned, took = last.due - first.due, last.asked - first.asked
    if planned <= 0 or planned >= _RATE_SHARE * took:
        return None
    steps = len(result.outcomes) - 1
    return _void(
        "rate_not_reached",
        f"{steps / took:.4g} requests per second were sent instead of {steps / planned:.4g}: the "
        "client is overloaded; use a lower rate, or a machine with a free core",
        rate=steps / took,
        asked=steps / planned,
    )


def _lengths(result: LoadResult, exact: Sequence[bool]) -> FitnessFinding | None:
    traced = dict(enumerate(result.schedule.traced))
    asked = [
        outcome
        for outcome in result.answered
        if outcome.tokens_asked is not None
        and exact[0 if traced.get(outcome.number) is not None else outcome.number % len(exact)]
    ]
    uncounted = sum(outcome.tokens is None for outcome in asked)
    if uncounted:
        return _void(
            "other_lengths",
            f"the server did not count the tokens of {uncounted} of {len(asked)} answers, so their "
            "length can't be checked; let it report usage (stream_options.include_usage)",
            answers=len(asked),
            uncounted=uncounted,
        )
    wrong = [outcome for outcome in asked if outcome.tokens != outcome.tokens_asked]
    if not wrong:
        return None
    first = wrong[0]
    return _void(
        "other_lengths",
        f"{len(wrong)} of {len(asked)} answers do not have the requested length, for example "
        f"{first.tokens} tokens instead of {first.tokens_asked}; ask for a fixed length "
        "(ignore_eos, min_tokens)",
        answers=len(asked),
        other=len(wrong),
    )


def _cache(result: LoadResult) -> FitnessFinding | None:
    """Find prompts that the server took from its cache although the test does not share them.

    Where the answers do not report it, the servers' own counters decide; if they don't
    report it either, that is a finding, too.
    """
    answered, bound = result.answered, result.max_cached
    if not answered:
        return None
    known = [(a, a.cached_tokens) for a in answered if a.cached_tokens is not None]
    served = [(answer, cached) for answer, cached in known if bound is not None and cached > bound]
    if served:
        first, cached = served[0]
        return _void(
            "prompt_cached",
            f"{len(served)} of {len(answered)} prompts were served from a cache, such as "
            f"{cached} of {first.prompt_tokens} tokens; llm.cache: shared measures with the cache",
            answers=len(answered),
            served=len(served),
        )
    counts = ((answer.cached_tokens, answer.prompt_tokens) for answer in answered)
    share = cache_share(counts, result.servers.values())
    if share is None:
        return unknown_use("warn", metrics_asked=True)
    prompts = [answer.prompt_tokens for answer in answered if answer.prompt_tokens is not None]
    if bound is None or len(known) == len(answered) or not prompts:
        return None
    tokens = share * fmean(prompts)
    if tokens <= bound:
        return None
    return _void(
        "prompt_cached",
        f"by the server's own counters {share:.0%} of the prompt tokens came from a cache, about "
        f"{tokens:.0f} of each prompt's {fmean(prompts):.0f}; llm.cache: shared measures with the "
        "cache",
        share=share,
    )


def _queue(result: LoadResult) -> FitnessFinding | None:
    """Find a server that can't keep up: requests in flight grew as long as any were sent.

    Their mean over the first, second and last third of that time must grow twice, each time by
    more than two standard deviations of the difference between two such numbers in a stable
    queue, which are assumed to be Poisson distributed.
    """
    if not result.schedule.is_open or len(result.outcomes) < 2:
        return None
    # Until the first request is answered, the number in flight grows in any case.
    begin = min((outcome.ended for outcome in result.answered), default=result.outcomes[0].due)
    end = result.outcomes[-1].due
    if begin >= end:
        return None
    waiting = _in_flight(result.outcomes, begin, end)
    third = len(waiting) // 3
    first, second, last = (fmean(waiting[start : start + third]) for start in (0, third, 2 * third))
    grown = (
        after - before > _GROWTH * math.sqrt(before + after)
        for before, after in ((first, second), (second, last))
    )
    if not all(grown):
        return None
    return _void(
        "over_saturated",
        f"the server can't keep up: {first:.0f}, {second:.0f}, then {last:.0f} requests were in "
        f"flight over {format_duration(end - begin)}, so latencies depend on how long the load "
        "lasts; use a lower rate",
        first=first,
        second=second,
        last=last,
    )


def _in_flight(outcomes: tuple[RequestOutcome, ...], begin: float, end: float) -> list[int]:
    """Return the number of requests in flight at times spread evenly from begin to end."""
    due = sorted(outcome.due for outcome in outcomes)
    ended = sorted(outcome.ended for outcome in outcomes)
    looks = 3 * _QUEUE_LOOKS
    times = (begin + (end - begin) * (look + 0.5) / looks for look in range(looks))
    return [bisect_right(due, moment) - bisect_right(ended, moment) for moment in times]
