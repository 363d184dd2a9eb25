"""Whether ``--llmperf-against HEAD~1`` is right about commits whose effect is known.

    python benchmarks/ab_commits.py --repeats 20 [--tolerance 2%] [--neighbour [KIND]] [--file FILE]

A repository is made whose application runs a real model; one commit slows each
decode step by 6%, one the evaluation of the prompt by 6%, one changes a comment; at a
tolerance of 2% one slows decode by 2.5%, and one changes a comment. Each is compared with
its parent as often as asked for, in random order. Nothing else should use the cores:
``--neighbour`` starts a process that takes a core in bursts, or does something else
(``busy_neighbour.py`` lists the kinds). With ``--file``, a later run continues where this stopped.
With more cores, sessions can run side by side: ``--lanes 6``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from busy_neighbour import add_neighbour_argument, busy_neighbour
from commit_repository import Application, CommitRepository
from lanes import add_lanes_argument, check_lanes, side_by_side
from outcomes import Outcomes

from pytest_llmperf.arguments import duration

#: Code before and after, and the metrics that it slows: at least one of them must be called, and
#: no other. If it slows none, all must pass.
Scenario = tuple[str, str, frozenset[str]]
COMMENT: Scenario = ('"""Yield token ids."""', '"""Yield the ids of tokens."""', frozenset())
SLOW_DECODE = frozenset({"tokens_per_sec", "end_to_end"})
SLOW_PROMPT = frozenset({"first_token", "end_to_end"})
#: By tolerance and name.
SCENARIOS: dict[str, dict[str, Scenario]] = {
    "5%": {
        "decode 6% slower": ("DECODE = 0.0", "DECODE = 0.06", SLOW_DECODE),
        "first token 6% slower": ("PREFILL = 0.0", "PREFILL = 0.06", SLOW_PROMPT),
        "a comment": COMMENT,
    },
    "2%": {
        "decode 2.5% slower": ("DECODE = 0.0", "DECODE = 0.025", SLOW_DECODE),
        "a comment": COMMENT,
    },
}


def compare_with_parent(repository: CommitRepository, report: Path) -> dict[str, Any]:
    """Compare HEAD with its parent; return the session's report and its wall time."""
    report.unlink(missing_ok=True)
    began = time.monotonic()
    done = repository.run(
        *("pytest", "-q", "-m", "perf", "--llmperf-against", "HEAD~1"),
        f"--llmperf-json={report}",
    )
    if not report.exists():
        raise SystemExit(f"no report:\n{done.stdout}{done.stderr}")
    document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return {**document, "wall": time.monotonic() - began}


def judge(test: dict[str, Any], slowed: frozenset[str]) -> tuple[bool, str]:
    """Return whether a session was right about its test, and its verdicts."""
    verdicts = {metric["name"]: metric["verdict"] for metric in test["metrics"] if metric["gated"]}
    text = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
    if not slowed:
        return set(verdicts.values()) <= {"pass"}, text
    # Sampling may have stopped for another metric that the same change slows.
    called = {name for name, verdict in verdicts.items() if verdict == "regressed"}
    return bool(called) and called <= slowed, text


def main() -> None:
    """Print a line per session, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=20, help="of each scenario (default 20)")
    Application.add_arguments(parser)
    parser.add_argument(
        "--budget", type=duration, default=math.inf, help="begin no session after so long, as 30m"
    )
    parser.add_argument("--tolerance", choices=SCENARIOS, default="5%", help="(default 5%%)")
    add_neighbour_argument(parser)
    Outcomes.add_argument(parser)
    add_lanes_argument(parser)
    arguments = parser.parse_args()
    application = replace(Application.of(parser, arguments), tolerance=arguments.tolerance)
    check_lanes(parser, arguments.lanes, application.threads, application.gpu)
    scenarios = SCENARIOS[arguments.tolerance]
    conditions = {**asdict(application), "neighbour": arguments.neighbour}
    outcomes = Outcomes(arguments.file, {**conditions, "model": str(application.model)})
    done = {(outcome["repeat"], outcome["scenario"]) for outcome in outcomes.all}
    until = time.monotonic() + arguments.budget
    with (
        tempfile.TemporaryDirectory() as temporary,
        busy_neighbour(arguments.neighbour),
    ):

        def session(job: tuple[int, str], environ: dict[str, str]) -> dict[str, Any] | None:
            repeat, name = job
            if time.monotonic() > until:
                return None
            folder = Path(temporary) / f"{repeat}-{list(scenarios).index(name)}"
            repository = CommitRepository(folder / "repository", application, environ)
            repository.edit(*scenarios[name][:2])
            repository.commit(name)
            return compare_with_parent(repository, folder / "report.json")

        jobs = []
        for repeat in range(1, arguments.repeats + 1):
            names = [name for name in scenarios if (repeat, name) not in done]
            random.shuffle(names)
            jobs += [(repeat, name) for name in names]
        for (repeat, name), report in side_by_side(session, jobs, arguments.lanes):
            if report is None:
                continue
            (test,) = report["tests"]
            right, verdicts = judge(test, scenarios[name][2])
            outcome = {
                "scenario": name,
                "repeat": repeat,
                "right": right,
                "pairs": test["pairs"],
                "seconds": report["wall"],
                "verdicts": verdicts,
                "explanations": [row["explanation"] for row in test["metrics"] if row["gated"]],
            }
            outcomes.add(outcome)
            print(
                f"{repeat:>3} {name:<22} {'right' if right else 'WRONG':<6}"
                f"{test['pairs']:>3} pairs {report['wall']:>6.1f} s  {verdicts}",
                flush=True,
            )
    print(f"\n{'commit':<22} {'right':>8} {'pairs':>16} {'seconds':>20}")
    for name in scenarios:
        repeats = [outcome for outcome in outcomes.all if outcome["scenario"] == name]
        if not repeats:
            continue
        count = sum(outcome["right"] for outcome in repeats)
        pairs, seconds = ([outcome[key] for outcome in repeats] for key in ("pairs", "seconds"))
        print(
            f"{name:<22} {count:>3} of {len(repeats):<2} "
            f"{statistics.median(pairs):>6g} ({min(pairs)} to {max(pairs)})".ljust(52)
            + f"{statistics.median(seconds):>6.0f} ({min(seconds):.0f} to {max(seconds):.0f})"
        )


if __name__ == "__main__":
    main()
