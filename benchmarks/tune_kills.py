"""Is any finished point lost if llmperf tune is killed, and does its study continue?

    python benchmarks/tune_kills.py [--kills 20] [--seed 1] [--file outcomes.jsonl]

A search in a small project is killed with SIGKILL after a random time, started again, and so on; a
study that is complete is followed by a new one. Printed for each kill: the moment and what the
search was doing, the points that it had named as finished until then, those that the next start
found, and the difference. Exit status 0 if none was lost and every search continued.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from outcomes import Outcomes

from pytest_llmperf.models.synthetic import synthesize

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "tune")
#: Longest time until a kill, seconds: a search takes about as long.
SPAN = 15.0
_STARTS = "searching "
_GOES_ON = re.compile(r"going on after (\d+) points")
_POINT = re.compile(r"llmperf: point (\d+) ")


@dataclass
class Search:
    """One run of the command, and what it has printed.

    Attributes:
        process: the running command.
        lines: of its standard error.
        known: points that it found in the study; None before it opened it.
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    known: int | None = None

    @classmethod
    def start(cls, folder: Path, study: str) -> Search:
        """Start a search, and read what it prints."""
        options = ["--prompt", "prompt.txt", "--max-tokens", "4", "--study", study]
        process = subprocess.Popen(
            [*COMMAND, *options, "--json", "out.json"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        search = cls(process)
        threading.Thread(target=search._read, daemon=True).start()
        return search

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if _STARTS in line:
                match = _GOES_ON.search(line)
                self.known = int(match[1]) if match is not None else 0
            self.lines.append(line.strip())

    @property
    def finished(self) -> set[int]:
        """Numbers of the points that it named as finished."""
        return {int(match[1]) for line in [*self.lines] if (match := _POINT.match(line))}

    def wait_until_open(self) -> bool:
        """Wait until it opened its study; return whether it did."""
        while self.known is None and self.process.poll() is None:
            time.sleep(0.02)
        return self.known is not None


def make_project(folder: Path) -> None:
    """Write a configuration that is bad enough to take many points, and a prompt."""
    model = folder / "model.gguf"
    synthesize("smollm2-135m", "Q8_0", model, layers=1)
    threads = {"n_threads": 1, "n_threads_batch": 1}
    llm = {"model_path": str(model), "n_ctx": 512, "n_batch": 8, "n_ubatch": 8, **threads}
    space = {"n_batch": [8, 32, 128], "n_ubatch": [8, 32, 128], "use_mmap": [True, False]}
    content = {
        "llm": {**llm, "max_tokens": 8},
        "perf": {
            "processes": 2,
            "max_pairs": 4,
            "iterations": 3,
            "warmup_max": 1,
            "turns": "processes",
        },
        "tune": {"space": space, "budget": "60s"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    (folder / "prompt.txt").write_text("A question about caches. " * 4)


def kill(folder: Path, study: str, moment: float, before: set[int]) -> dict[str, Any]:
    """Start a search, kill it at a moment, and start it again to see what it knows.

    ``before``: points that earlier runs of the study named as finished.
    """
    search = Search.start(folder, study)
    try:
        search.process.wait(moment)
    except subprocess.TimeoutExpired:
        os.kill(search.process.pid, signal.SIGKILL)
        search.process.wait()
    ended = search.process.returncode
    named = before | search.finished
    restarted = Search.start(folder, study)
    went_on = restarted.wait_until_open()
    os.kill(restarted.process.pid, signal.SIGKILL)
    restarted.process.wait()
    after = restarted.known or 0
    return {
        "moment": moment,
        "doing": search.lines[-1] if search.lines else "starting",
        "killed": ended == -signal.SIGKILL,
        "named": sorted(named),
        "after": after,
        "lost": max(0, len(named) - after),
        "went_on": went_on,
        "problem": "" if went_on else "\n".join(restarted.lines[-3:]),
    }


def show(number: int, outcome: Mapping[str, Any]) -> None:
    """Print one row of the table."""
    state = "" if outcome["went_on"] else f"  DID NOT GO ON: {outcome['problem']}"
    print(
        f"{number:4}  {outcome['moment']:6.1f} s  {len(outcome['named']):6}  {outcome['after']:5}  "
        f"{outcome['lost']:4}  {outcome['doing'][:60]}{state}",
        flush=True,
    )


def main() -> int:
    """Kill as often as asked, and finish the last study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="(default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    file = arguments.file.absolute() if arguments.file is not None else None
    outcomes = Outcomes(file, {"what": "kills", "seed": arguments.seed})
    moments = random.Random(arguments.seed)
    print("kill    moment  before  after  lost  last line before it")
    for number, past in enumerate(outcomes.all, start=1):
        moments.uniform(0.5, SPAN)
        show(number, past)
    with tempfile.TemporaryDirectory(prefix="llmperf-") as name:
        folder = Path(name)
        os.environ["LLMPERF_CACHE_DIR"] = str(folder / "cache")
        # Speed does not matter here, so there is no need to wait for others on the device.
        os.environ["LLMPERF_DEVICE_LOCK"] = str(folder / "device.lock")
        make_project(folder)
        study, known = 1, set[int]()
        while len(outcomes.all) < arguments.kills:
            outcome = kill(folder, f"kills-{study}", moments.uniform(0.5, SPAN), known)
            known = {*outcome["named"]}
            if not outcome["killed"]:
                # The study was complete before the kill.
                study, known = study + 1, set()
                continue
            outcomes.add(outcome)
            show(len(outcomes.all), outcome)
        last = Search.start(folder, f"kills-{study}")
        status = last.process.wait()
        points = json.loads((folder / "out.json").read_text())["points"] if not status else []
    kept = {point["number"] for point in points}
    settings = [
        json.dumps(point["settings"], sort_keys=True)
        for point in points
        if point["outcome"] != "out of time"
    ]
    lost = sum(outcome["lost"] for outcome in outcomes.all) + len(known - kept)
    stopped = sum(not outcome["went_on"] for outcome in outcomes.all)
    twice = len(settings) - len({*settings})
    print(
        f"{lost} points lost, {stopped} searches that did not go on; the last study ended with "
        f"status {status} and {len(points)} points, {twice} of them measured twice"
    )
    return 1 if lost or stopped or status or twice else 0


if __name__ == "__main__":
    sys.exit(main())
