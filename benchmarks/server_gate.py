"""Whether the gate is right about servers: nothing changed, or decode is slower by a known share.

    .venv/bin/python benchmarks/server_gate.py --sessions 20 --file outcomes.jsonl

A real llama.cpp server (package xllamacpp) on a tiny model is measured in four ways:

- ``same server``: both configurations of a session (``--llmperf-against-config``) start the same
  command. Whatever is called slower is a false alarm;
- ``decode slower``: both configurations start it behind a relay (``slow_relay.py``), which
  delays the chunks of the candidate's answers, so that the time between them is 6% longer. The
  relay records the true slowdown;
- ``attached, same`` and ``attached, slower``: a server that already runs (``llm.url``), measured
  in blocks and compared with sessions recorded before; it is restarted for each session.

With ``--file``, a later run continues where this one stopped. Nothing else should use the cores: a
session that a neighbour disturbs ends as ``invalid`` or ``inconclusive``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from outcomes import Outcomes
from served_project import Served, ServedProject, running, small_model
from slow_relay import true_slowdown

from pytest_llmperf.arguments import duration, share, whole_number
from pytest_llmperf.stats.proportions import binomial_interval

#: Whether the candidate is slower, by kind of session.
KINDS = {
    "same server": False,
    "decode slower": True,
    "attached, same": False,
    "attached, slower": True,
}


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the answers that a relay noted."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def outcome_of(kind: str, number: int, report: Mapping[str, Any], wall: float) -> dict[str, Any]:
    """Return a session's outcome: its verdict, what it called slower, and what it measured."""
    (test,) = report["tests"]
    gated = [metric for metric in test["metrics"] if metric["gated"]]
    return {
        "kind": kind,
        "number": number,
        "verdict": test["verdict"],
        "called": [metric["name"] for metric in gated if metric["verdict"] == "regressed"],
        "changes": {metric["name"]: metric["change"] for metric in gated},
        "explanations": {metric["name"]: metric["explanation"] for metric in gated},
        "samples": test["pairs"] or test["processes"],
        "seconds": wall,
    }


def compared(project: ServedProject, served: Served, share: float | None) -> dict[str, Any]:
    """Run a session of two configurations; the candidate's decode is slower by ``share``."""
    base, candidate = (project.folder / f"{name}.jsonl" for name in ("base", "candidate"))
    if share is None:
        project.start("config.yaml", served.command())
        project.start("base.yaml", served.command())
    else:
        project.start("config.yaml", served.command(share, candidate))
        project.start("base.yaml", served.command(0.0, base))
    report, wall = project.session("--llmperf-against-config", "base.yaml")
    return {"report": report, "wall": wall, "planted": planted(read_log(candidate), read_log(base))}


def planted(
    candidate: Iterable[Mapping[str, Any]], base: Iterable[Mapping[str, Any]] = ()
) -> float | None:
    """Return how much a relay slowed the candidate, relative to the base; None if unknown."""
    slowed = true_slowdown(candidate)
    if slowed is None:
        return None
    return (1.0 + slowed) / (1.0 + (true_slowdown(base) or 0.0)) - 1.0


def attached(
    project: ServedProject, served: Served, share: float, *arguments: str
) -> dict[str, Any]:
    """Run a session on a server that is started before it and ended after it."""
    log = project.folder / "relay.jsonl"
    log.unlink(missing_ok=True)
    with running(served.command(share, log), project.port, project.folder / "log") as url:
        project.configure("config.yaml", url=url)
        report, wall = project.session(*arguments)
    return {"report": report, "wall": wall, "planted": planted(read_log(log))}


class Sessions:
    """Runs sessions of each kind.

    Args:
        folder: for their projects.
        served: what they ask.
        share: slowdown of decode in the kinds where it is slower.
        recorded: number of sessions recorded before the attached ones.
        perf: further keys of ``perf``.
    """

    def __init__(
        self, folder: Path, served: Served, share: float, recorded: int, perf: Mapping[str, Any]
    ) -> None:
        self._folder, self._served, self._share = folder, served, share
        self._recorded, self._perf = recorded, perf
        self._attached: ServedProject | None = None

    def run(self, kind: str, number: int) -> dict[str, Any]:
        """Run one session; return its outcome."""
        slower = KINDS[kind]
        if kind.startswith("attached"):
            done = attached(self._recording(), self._served, self._share if slower else 0.0)
        else:
            folder = self._folder / f"{number}-{list(KINDS).index(kind)}"
            project = ServedProject(folder, self._served, self._perf)
            done = compared(project, self._served, self._share if slower else None)
        outcome = outcome_of(kind, number, done["report"], done["wall"])
        return {**outcome, "planted": done["planted"]}

    def _recording(self) -> ServedProject:
        """Return the project with its recorded sessions, made at the first use."""
        if self._attached is None:
            self._attached = ServedProject(self._folder / "attached", self._served, self._perf)
            for number in range(self._recorded):
                done = attached(self._attached, self._served, 0.0, "--llmperf-record")
                print(f"recorded {number + 1} of {self._recorded} in {done['wall']:.0f} s")
        return self._attached


def show(outcomes: Iterable[Mapping[str, Any]]) -> None:
    """Print the table of all sessions."""
    sessions = list(outcomes)
    print(
        f"\n{'':17} {'called slower':>25} {'passed':>7} {'undecided':>9} {'invalid':>7} "
        f"{'samples':>13} {'seconds':>15} {'planted':>8} {'measured':>9}"
    )
    for kind in KINDS:
        of_kind = [session for session in sessions if session["kind"] == kind]
        if of_kind:
            print(row(kind, of_kind))
    print(
        "called slower: sessions with a regressed check, of those that were not invalid, with the\n"
        "exact 95% interval. samples: pairs, or blocks of an attached server. planted: by the "
        "relay's\nown clock. measured: change of tokens/s, median over the sessions."
    )


def row(kind: str, outcomes: list[Mapping[str, Any]]) -> str:
    """Return one line of the table."""
    valid = [session for session in outcomes if session["verdict"] not in ("invalid", "error")]
    called = sum(bool(session["called"]) for session in valid)
    # Improved counts as passed: nothing is called slower.
    passed = sum(session["verdict"] in ("pass", "improved") for session in valid)
    undecided = len(valid) - passed - sum(session["verdict"] == "regressed" for session in valid)
    low, high = binomial_interval(called, len(valid)) if valid else (0.0, 1.0)
    changes = [session["changes"].get("tokens_per_sec") for session in valid]
    known = [change for change in changes if change is not None]
    true = [session["planted"] for session in valid if session["planted"] is not None]
    by, measured = (f"{median(values):+.1%}" if values else "-" for values in (true, known))
    return (
        f"{kind:17} {called:3} of {len(valid):2} ({low:5.1%} to {high:6.1%}) {passed:7} "
        f"{undecided:9} {len(outcomes) - len(valid):7} {_spread(outcomes, 'samples'):>13} "
        f"{_spread(outcomes, 'seconds'):>15} "
        f"{by:>8} {measured:>9}"
    )


def _spread(outcomes: list[Mapping[str, Any]], key: str) -> str:
    values = [session[key] for session in outcomes]
    return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def main() -> None:
    """Print a line per session, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    count = whole_number()
    parser.add_argument("--sessions", type=count, default=20, help="of each kind (default 20)")
    parser.add_argument(
        "--kind", choices=KINDS, action="append", help="only these (default: the first two)"
    )
    parser.add_argument("--share", type=share, default=0.06, help="planted (default 6%%)")
    parser.add_argument("--model", type=Path, help="a GGUF file (default: a tiny one)")
    parser.add_argument("--tokens", type=count, default=64, help="of an answer (default 64)")
    parser.add_argument("--recorded", type=count, default=5, help="baseline sessions (default 5)")
    parser.add_argument("--tolerance", default="5%", help="of the test (default 5%%)")
    parser.add_argument(
        "--budget", type=duration, default=math.inf, help="begin no session after so long, as 30m"
    )
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    kinds = arguments.kind or list(KINDS)[:2]
    served = Served(arguments.model or small_model(), arguments.tokens)
    perf = {"tolerance": arguments.tolerance, "budget": "5m"}
    conditions = {
        **perf,
        "model": str(arguments.model),
        "tokens": arguments.tokens,
        "share": arguments.share,
        "recorded": arguments.recorded,
    }
    outcomes = Outcomes(arguments.file, conditions)
    done = {(outcome["number"], outcome["kind"]) for outcome in outcomes.all}
    until = time.monotonic() + arguments.budget
    with tempfile.TemporaryDirectory() as temporary:
        sessions = Sessions(Path(temporary), served, arguments.share, arguments.recorded, perf)
        for number in range(1, arguments.sessions + 1):
            left = [kind for kind in kinds if (number, kind) not in done]
            random.shuffle(left)
            for kind in left:
                if time.monotonic() > until:
                    break
                outcome = sessions.run(kind, number)
                outcomes.add(outcome)
                print(
                    f"{number:3} {kind:17} {outcome['verdict']:12} {outcome['samples']:3} samples "
                    f"{outcome['seconds']:6.1f} s  {', '.join(outcome['called'])}",
                    flush=True,
                )
    show(outcome for outcome in outcomes.all if outcome["kind"] in kinds)


if __name__ == "__main__":
    main()
