"""Whether the figures of a load are true, compared with a server that records what it really did.

The tests' server simulator runs as a process and notes when it had read each request and when it
wrote each chunk, on the clock that both processes share. Its latencies are the truth; the rate and
the goodput are computed from its own times. Each figure must agree within 1% or 0.3 ms. Then the
whole server stops once for two seconds: every request that was due meanwhile must show the wait.
Printed beside it is the latency since the same requests were sent, which ``vllm bench serve`` and
GuideLLM report; once with a limit on requests in flight (``vllm bench serve --max-concurrency``),
beyond which requests wait in the client. With ``--with guidellm``, GuideLLM itself meets such a
stop under the same limit. Last, 10,000 requests are sent, a twentieth of which fail in every
possible way: none may be lost, and the client's memory may grow by at most 2 KiB for each.

    .venv/bin/python benchmarks/server_truth.py [--with guidellm]

Exit status 0 if all figures agree; 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from load_tools import GuideLlm
from tools_env import SetupError

from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.generator import LoadGenerator
from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.schedule import Schedule, closed, poisson
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.measure.load_metrics import (
    Since,
    first_token,
    good_answers,
    load_figures,
    slips,
)
from pytest_llmperf.measure.load_validity import load_findings

SIMULATOR = Path(__file__).resolve().parent.parent / "tests" / "support" / "server_simulator.py"
#: Seconds to the first token and between tokens; tokens per answer.
FIRST, GAP, TOKENS = 0.05, 0.01, 33
SHARE, SECONDS = 0.01, 0.0003
#: When the whole server stops, in seconds after the first request, and for how long.
STOP_AT, STOP_FOR = 2.0, 2.0
#: Most requests in flight, where that is limited. On average there are 23.
AT_ONCE = 32
#: Most bytes by which the client's memory may grow for each request.
MAX_BYTES = 2048

Truths = Sequence[Mapping[str, Any]]


@contextmanager
def simulator(plan: Mapping[str, Any], *options: str) -> Iterator[str]:
    """Run the simulator as a process; yield its URL."""
    command = [sys.executable, str(SIMULATOR), "--plan", json.dumps(plan), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
        process.communicate()


def fetch_truth(url: str) -> tuple[Truths, Sequence[float]]:
    """Return the server's record of each request since the last call, and when it stopped."""
    record = _truth(url)
    forget = urllib.request.Request(f"{url}/truth", method="DELETE")
    urllib.request.urlopen(forget).close()
    return sorted(record["truths"], key=lambda truth: int(truth["number"])), record["stopped"]


def fetch_stop(url: str) -> tuple[float, float]:
    """Return when the server stopped and when it continued."""
    begin, end = _truth(url)["stopped"]
    return begin, end


def _truth(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/truth") as response:
        record: dict[str, Any] = json.load(response)
    return record


def first_token_seconds(number: int, *, in_step: bool = False) -> float:
    """Return the seconds to the first token of a request.

    Every fourth request is too slow to be good. Unless ``in_step``, the times differ: if 64
    requests came at the same moment, the server itself would see the last of them ms late.
    """
    return FIRST * (1 if number % 4 else 4) + (0.0 if in_step else GAP * (number * 0.618 % 1.0))


async def load(
    url: str, schedule: Schedule, count: int, *, in_step: bool = False, at_once: int | None = None
) -> LoadResult:
    """Put a load on the server; beyond ``at_once`` requests in flight, others wait to be sent."""
    firsts = [first_token_seconds(number, in_step=in_step) for number in range(count)]
    requests = [
        ServerRequest(
            "hi", max_tokens=TOKENS, body={"simulate": {"number": number, "first": first}}
        )
        for number, first in enumerate(firsts)
    ]
    limit = asyncio.Semaphore(at_once or count)
    async with ServerClient(ServerSettings(url)) as client:

        async def ask(request: ServerRequest) -> ServerAnswer:
            async with limit:
                return await client.ask(request)

        return await LoadGenerator(ask if at_once else client.ask, requests, schedule).run()


def true_figures(result: LoadResult, truths: Truths) -> dict[str, float]:
    """Return the figures from the server's own times.

    Latencies begin when the server had read a request, or when the request was due.
    """
    due = {outcome.number: outcome.due for outcome in result.outcomes}
    firsts = [truth["chunks"][0][0] - truth["received"] for truth in truths]
    ends = [truth["chunks"][-1][0] - truth["received"] for truth in truths]
    gaps = [
        (truth["chunks"][-1][0] - truth["chunks"][0][0])
        / (sum(tokens for _, tokens in truth["chunks"]) - 1)
        for truth in truths
    ]
    seconds = max(row["finished"] for row in truths) - min(row["received"] for row in truths)
    good = sum(
        first <= goodput_limit(firsts) and end <= goodput_limit(ends)
        for first, end in zip(firsts, ends, strict=True)
    )
    return {
        "first token": median(firsts),
        "time per token": median(gaps),
        "end to end": median(ends),
        "first from due": median(truth["chunks"][0][0] - due[truth["number"]] for truth in truths),
        "end from due": median(truth["chunks"][-1][0] - due[truth["number"]] for truth in truths),
        "requests/s": len(truths) / seconds,
        "tokens/s": len(truths) * TOKENS / seconds,
        "goodput": good / len(truths),
    }


def goodput_limit(values: Sequence[float]) -> float:
    """Return a limit that some requests exceed by far and none by a hair."""
    return median(values) * 1.5


def measured_figures(result: LoadResult, truths: Truths) -> dict[str, float]:
    """Return the same figures as measured by the client."""
    firsts = [truth["chunks"][0][0] - truth["received"] for truth in truths]
    ends = [truth["chunks"][-1][0] - truth["received"] for truth in truths]
    limits = {"first_token": goodput_limit(firsts), "end_to_end": goodput_limit(ends)}
    figures = load_figures(result)
    assert figures.output_tokens is not None
    latencies = figures.since_sent
    return {
        "first token": latencies["first_token"].median,
        "time per token": latencies["time_per_output_token"].median,
        "end to end": latencies["end_to_end"].median,
        "first from due": figures.from_schedule["first_token"].median,
        "end from due": figures.from_schedule["end_to_end"].median,
        "requests/s": figures.answered / figures.seconds,
        "tokens/s": figures.output_tokens / figures.seconds,
        "goodput": good_answers(result, limits) / len(result.outcomes),
    }


def delays(result: LoadResult, truths: Truths) -> Iterator[tuple[float, float]]:
    """Yield the seconds that each request took to the server, and its first chunk took back.

    From just before the client writes the request until the server has read it, and from just
    before the server writes the first chunk until the client has read it. On Linux, both processes
    share one clock. A process reads its connections one after the other: the more data arrives
    together, the later the last of it is read, in the server and in the client.
    """
    by_number = {truth["number"]: truth for truth in truths}
    for outcome in result.answered:
        truth = by_number[outcome.number]
        assert outcome.sent is not None
        yield truth["received"] - outcome.sent, outcome.times[0] - truth["chunks"][0][0]


def agree(name: str, truth: float, measured: float) -> bool:
    """Whether a figure is close enough to the truth."""
    off = abs(measured - truth)
    return off <= SHARE * truth or ("/s" not in name and name != "goodput" and off <= SECONDS)


def compare(name: str, schedules: Sequence[Schedule], count: int, *, in_step: bool = False) -> bool:
    """Measure one load with each schedule; print its figures beside the truth."""
    rows: dict[str, list[tuple[float, float]]] = {}
    findings: list[str] = []
    late: list[float] = []
    ways: list[tuple[float, float]] = []
    with simulator({"first": FIRST, "gap": GAP}) as url:
        for schedule in schedules:
            result = asyncio.run(load(url, schedule, count, in_step=in_step))
            truths, _ = fetch_truth(url)
            findings += (str(finding) for finding in load_findings(result))
            late += slips(result)
            ways += delays(result, truths)
            measured = measured_figures(result, truths)
            for figure, truth in true_figures(result, truths).items():
                rows.setdefault(figure, []).append((truth, measured[figure]))
    fine = not findings
    for figure, pairs in rows.items():
        ratios = sorted(measured / truth - 1 for truth, measured in pairs)
        truth, measured = (median(values) for values in zip(*pairs, strict=True))
        good = all(agree(figure, *pair) for pair in pairs)
        fine = fine and good
        in_ms = "/s" not in figure and figure != "goodput"
        scale, unit = (1000, " ms") if in_ms else (1, "/s")
        print(
            f"{name:16} {figure:15} {truth * scale:9.3f}{unit} {measured * scale:9.3f}{unit} "
            f"{median(ratios):+7.2%} ({ratios[0]:+.2%} to {ratios[-1]:+.2%})"
            f"{'' if good else '  OFF'}"
        )
    print(f"{name:16} sent late: {median(late) * 1000:.3f} ms, at worst {max(late) * 1000:.3f} ms")
    for where, seconds in zip(
        ("in the server", "in the client"), zip(*ways, strict=True), strict=True
    ):
        print(
            f"{name:16} read late {where}: {median(seconds) * 1000:.3f} ms, "
            f"at worst {max(seconds) * 1000:.3f} ms"
        )
    for finding in findings:
        print(f"{name:16} {finding}")
    return fine


def stop_in_outcomes(
    within: Sequence[RequestOutcome], since: Since, end: float
) -> tuple[int, float]:
    """Return how many first tokens took until the end of a stop or longer, and the median of all.

    Args:
        within: requests that were due in the stop.
        since: where their latencies begin.
        end: of the stop, on the client's clock.
    """
    return stop_in_latencies(
        [(outcome.due, first_token(outcome, since) or 0.0) for outcome in within], end
    )


def stop_in_latencies(within: Sequence[tuple[float, float]], end: float) -> tuple[int, float]:
    """Return how many latencies reach to the end of a stop or beyond, and the median of all.

    Args:
        within: due time and latency of each request that was due in the stop.
        end: of the stop, on the same clock.
    """
    return sum(took >= end - due for due, took in within), median(took for _, took in within)


def stop_row(name: str, due: tuple[int, float], sent: tuple[int, float], count: int) -> str:
    """Return a table row: how a stop shows in latencies from the due time and the send time."""
    return f"{name:22} {count:10} {due[0]:22} {sent[0]:12} {due[1]:25.3f} s {sent[1]:10.3f} s"


def stop_shows(rate: float, seed: int, at_once: int | None = None) -> bool:
    """Stop the server once; print and return whether the requests due meanwhile show it."""
    schedule = poisson(rate, seed=seed, duration=STOP_AT + STOP_FOR + 2.0)
    plan = {"first": FIRST, "gap": GAP}
    with simulator(plan, "--stop", str(STOP_AT), str(STOP_FOR)) as url:
        result = asyncio.run(load(url, schedule, len(schedule.due), at_once=at_once))
        _, (begin, end) = fetch_truth(url)
    within = [outcome for outcome in result.outcomes if begin <= outcome.due < end]
    if not within:
        print("no request was due in the stop")
        return False
    due, sent = (stop_in_outcomes(within, since, end) for since in ("due", "sent"))
    limit = f"{at_once} in flight at most" if at_once else "any number in flight"
    print(stop_row(limit, due, sent, len(within)))
    return due[0] == len(within)


def show_tools_stop(tool: GuideLlm, rate: float, at_once: int) -> None:
    """Stop the server once while another tool sends requests; print how that tool sees the stop."""
    requests = round(rate * (STOP_AT + STOP_FOR + 2.0))
    plan = {"first": FIRST, "gap": GAP}
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator(plan, "--stop", str(STOP_AT), str(STOP_FOR)) as url,
    ):
        paced = tool.paced(url, rate, requests, at_once, TOKENS, Path(folder))
        stopped = fetch_stop(url)
    to_unix = time.time() - time.perf_counter()
    begin, end = (at + to_unix for at in stopped)
    within = [request for request in paced if begin <= request.due < end]
    if not within:
        raise SetupError("no request was due in the stop")
    due = stop_in_latencies([(request.due, request.first - request.due) for request in within], end)
    sent = stop_in_latencies(
        [(request.due, request.first - request.sent) for request in within], end
    )
    print(stop_row(f"GuideLLM, {at_once} in flight", due, sent, len(within)))


def none_is_lost(count: int) -> bool:
    """Send many requests, some of which fail; print and return whether all are accounted for."""
    faults = ("reset", "bad_frame", "status", "error_event", "cut_short", "half_frame", "stall")
    requests = []
    for number in range(count):
        fault = faults[number // 20 % len(faults)] if number % 20 == 0 else None
        body = {"simulate": {"number": number, "fault": fault}}
        requests.append(ServerRequest("hi", max_tokens=4, body=body))

    async def send(url: str) -> LoadResult:
        async with ServerClient(ServerSettings(url, idle_s=1.0, total_s=10.0)) as client:
            return await LoadGenerator(client.ask, requests, closed(64, requests=count)).run()

    before = psutil.Process().memory_info().rss
    with simulator({}) as url:
        result = asyncio.run(send(url))
        grown = psutil.Process().memory_info().rss - before
        truths, _ = fetch_truth(url)
    failed = Counter(outcome.fault for outcome in result.outcomes if outcome.fault is not None)
    good = (
        sum(failed.values()) == len(range(0, count, 20))
        and [outcome.number for outcome in result.outcomes] == list(range(count))
        and grown <= MAX_BYTES * count
    )
    print(
        f"{count} requests: {len(result.outcomes)} came to an end, {len(truths)} reached the "
        f"server, {sum(failed.values())} failed ({dict(failed)}); "
        f"{result.window[1] - result.window[0]:.1f} s, {grown / count:.0f} bytes each, "
        f"at most {MAX_BYTES}"
    )
    return good


def main() -> int:
    """Compare every load; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--in-step",
        action="store_true",
        help="only 64 requests that all come at the same moment: where the difference arises",
    )
    parser.add_argument("--with", dest="tool", choices=("guidellm",), help="another load tool")
    arguments = parser.parse_args()
    times = range(arguments.repeat)
    print(f"{'load':16} {'figure':15} {'truth':>12} {'measured':>12} difference (spread)")
    if arguments.in_step:
        schedules = [closed(64, requests=384) for _ in times]
        return 0 if compare("64 in step", schedules, 384, in_step=True) else 1
    fine = [
        compare("1 at a time", [closed(1, requests=8) for _ in times], 8),
        compare("8 at a time", [closed(8, requests=64) for _ in times], 64),
        compare("64 at a time", [closed(64, requests=384) for _ in times], 384),
        compare(
            "50 per second",
            [poisson(50, seed=arguments.seed + number, requests=250) for number in times],
            250,
        ),
    ]
    print(
        f"\na stop of {STOP_FOR:g} s, in the first token of requests due in it, from when each was "
        "due and\nsince each was sent (as vllm bench serve and GuideLLM count)\n"
        f"{'':22} {'due in it':>10} {'showing it: from due':>22} {'since sent':>12} "
        f"{'median: from due':>27} {'since sent':>12}"
    )
    fine += [
        stop_shows(50.0, arguments.seed),
        stop_shows(50.0, arguments.seed, AT_ONCE),
    ]
    if arguments.tool:
        try:
            show_tools_stop(GuideLlm(), 50.0, AT_ONCE)
        except SetupError as error:
            print(f"GuideLLM is left out, because it can't be run here: {error}", file=sys.stderr)
    fine.append(none_is_lost(10_000))
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
