"""``llmperf baseline show``: print the stored sessions and what they can decide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.choice import choose_machines, choose_tests, find_baseline_folder
from pytest_llmperf.baselines.overview import overview
from pytest_llmperf.cli.output import say, width

if TYPE_CHECKING:
    import argparse


def show(arguments: argparse.Namespace) -> int:
    """Print every machine, session and test, or the named ones.

    Raises:
        WrongArgumentError: a machine or test is not there.
        BaselineError: nothing is stored, or the store cannot be read.
    """
    folder = find_baseline_folder(arguments.dir)
    shelves = choose_machines(folder.store, arguments.machine)
    known = {name for shelf in shelves.values() for s in shelf.records for name in s.record.tests}
    tests = choose_tests(arguments.tests, known, str(folder.store.root))
    looks = {
        key: overview(shelf, tests, folder.tolerance, folder.false_alarms)
        for key, shelf in shelves.items()
    }
    if arguments.json:
        from pytest_llmperf.report.baseline_json import baseline_json

        say(json.dumps(baseline_json(folder, shelves, looks), indent=2, allow_nan=False))
    else:
        from pytest_llmperf.report.baseline_text import baseline_lines

        say(*baseline_lines(folder, shelves, looks, tests, width()))
    return 0
