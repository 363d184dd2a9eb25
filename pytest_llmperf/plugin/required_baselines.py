"""``--llmperf-require-baseline``: fails tests known to lack a baseline before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.match import BaselineSet
from pytest_llmperf.baselines.record import ModelIdentity
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.gate.words import listed
from pytest_llmperf.plugin.commands import as_argument, command_stem
from pytest_llmperf.plugin.options import Options, usage_error
from pytest_llmperf.plugin.verdict_reports import fail_report
from pytest_llmperf.report.failure import record_command
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.session.baseline_source import read_baselines
from pytest_llmperf.session.facts import machine_before_loading
from pytest_llmperf.session.session_gate import why_no_baseline_matches

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.repository.revisions import Revision
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.setup import EngineSetup

_HERE = "no session recorded on this machine contains this test"


class RequiredBaselines:
    """Fails perf tests without a baseline, before their fixtures are set up.

    Args:
        texts: the failures' texts, by node id.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail a test at its set-up, after skips."""
        if item.nodeid in self._texts:
            pytest.fail(self._texts[item.nodeid], pytrace=False)

    def as_verdict(
        self, item: pytest.Item, reports: list[pytest.TestReport]
    ) -> list[pytest.TestReport]:
        """Return a stopped test's reports as a failing verdict; others unchanged."""
        setup = reports[0]
        if item.nodeid not in self._texts or not setup.failed:
            return reports
        call = copy(setup)
        setup.outcome, setup.longrepr, call.when = "passed", None, "call"
        fail_report(call, self._texts[item.nodeid], item)
        return [setup, call, *reports[1:]]


def required_baselines(
    config: pytest.Config,
    items: Sequence[pytest.Item],
    checks: Mapping[str, Sequence[Check]],
    context: SessionContext,
    options: Options,
) -> RequiredBaselines:
    """Return the tests that are known to lack a required baseline.

    There are none if the session records, or compares two sides without baselines.

    Raises:
        pytest.UsageError: the stored sessions can't be read.
    """
    request = context.request
    compares = request.base is None and not request.record and not options.for_command
    if not options.require_baseline or not compares:
        return RequiredBaselines({})
    missing = _Missing(context.setup, context.baselines_dir, request.baselines_from)
    texts = {}
    for item in items:
        compared = [check.metric for check in checks[item.nodeid] if check.gated]
        labels = [metric.label for metric in compared if metric.compared and metric.kind != "share"]
        if labels and (reason := missing.of(item.nodeid)):
            argument = as_argument(config, item.nodeid)
            texts[item.nodeid] = "\n".join(
                [
                    f"no baseline: {listed(labels)}: {reason}",
                    "    --llmperf-require-baseline is set, so this test was not run",
                    "to record this level:",
                    f"    {record_command(argument, command_stem(config))}",
                ]
            )
    return RequiredBaselines(texts)


class _Missing:
    """Finds why a test has no baseline, as far as known before a model is loaded."""

    def __init__(self, setup: EngineSetup, folder: Path, baselines_from: Revision | None) -> None:
        store = BaselineStore(folder)
        machine = machine_before_loading(setup.llm)
        self._root = folder
        self._found: BaselineSet | None = None
        try:
            # A server's model is known only once it runs.
            if machine is not None and not setup.llm.kind.names_model:
                model = _model(setup)
                self._found, _ = read_baselines(store, machine, model, baselines_from)
                records = self._found.records
            else:
                records = tuple(one for key in store.machines() for one in store.read_machine(key))
            self._any = bool(store.machines())
        except (BaselineError, GitError, OSError) as error:
            raise usage_error(str(error)) from None
        self._tests = {nodeid for stored in records for nodeid in stored.record.tests}

    def of(self, nodeid: str) -> str:
        """Return the reason; empty if the test may have a baseline."""
        if nodeid in self._tests:
            return ""
        stored = self._found
        if not self._any:
            return f"nothing is recorded in {self._root}"
        return (
            why_no_baseline_matches(stored) if stored is not None and not stored.records else ""
        ) or _HERE


def _model(setup: EngineSetup) -> ModelIdentity:
    """Return the parts of the model's identity by which baselines are chosen."""
    model = setup.model
    if model is None:
        return ModelIdentity(setup.model_identity, None, None, None)
    return ModelIdentity(model.first.stem, model.sha256(), None, None)
