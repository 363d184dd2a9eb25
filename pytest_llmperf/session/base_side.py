"""The base side of a comparison: another configuration, or another commit, run interleaved."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.config.cell_settings import (
    ImpossibleSettingsError,
    WrongSettingError,
    with_settings,
)
from pytest_llmperf.config.load import load_config
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.request_digest import ADVICE, difference
from pytest_llmperf.session.base_recording import OtherTree
from pytest_llmperf.session.cell import specs_of
from pytest_llmperf.session.setup import EngineSetup, set_up_engine

if TYPE_CHECKING:
    from pytest_llmperf.config.llm_section import LlmConfig
    from pytest_llmperf.engine.client import LaunchSpec
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest


#: Whether a test makes the same requests on both sides, different ones, or exists on one only.
Relation = Literal["same", "changed", "absent"]
#: Settings that select another engine or model, for which a test's workload may differ.
_OTHER_WORK = ("engine", "target", "model_path", "chat_format")


class SideError(Exception):
    """A side of a comparison that can't be used; ``str()`` is a complete message."""


@dataclass(frozen=True)
class BaseSide:
    """The base side of a comparison, which the candidate, this session's own side, is run against.

    Attributes:
        name: its name in reports: its file, or the commit.
        spec: how its engine processes are started; None if it has no test of this session.
        llm: its engine settings; None if ``spec`` is.
        differences: what differs besides the code, ``key: base 1, candidate 2``.
        changed: workloads of the tests that make other requests on this side, by node id.
        absent: why a test has no counterpart on this side, by node id.
        broken: why a test can't be compared although it may exist on this side, by node id.
        notes: further remarks on it, one line each.
        identity: what distinguishes this base from any other, plain JSON; empty where unknown.
        commit: its hash, if it is another commit.
        culprit: what to blame for a regression against that commit.
        bisect_from: what `llmperf bisect` starts from to find it; None if there is nothing to find.
        tree: where to record tests for another configuration whose engine may process them
            differently; None if this session's recording is valid for both.
    """

    name: str
    spec: LaunchSpec | None
    llm: LlmConfig | None
    differences: tuple[str, ...] = ()
    changed: Mapping[str, Workload] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    culprit: str = ""
    bisect_from: str | None = None
    tree: OtherTree | None = None

    def relation(self, nodeid: str) -> Relation:
        """Return how a test's workload on this side relates to the candidate's."""
        if self.spec is None or nodeid in self.absent or nodeid in self.broken:
            return "absent"
        return "changed" if nodeid in self.changed else "same"

    def for_tests(self, tests: Sequence[RecordedTest]) -> BaseSide:
        """Return this side, with tests marked broken if it can't have their settings."""
        broken = dict(self.broken)
        for test in tests:
            if test.cell is None or self.relation(test.nodeid) == "absent":
                continue
            try:
                self.for_test(test)
            except (WrongSettingError, ImpossibleSettingsError) as error:
                broken[test.nodeid] = f"base ({self.name}) can't have these settings: {error}"
        return replace(self, broken=broken) if broken != self.broken else self

    def for_test(self, test: RecordedTest) -> BaseSide:
        """Return this side with the settings of a test's sweep cell, if it has one.

        Raises:
            WrongSettingError, ImpossibleSettingsError: its configuration can't have them.
        """
        cell, llm, spec = test.cell, self.llm, self.spec
        if cell is None or llm is None or spec is None:
            return self
        if test.nodeid in self.broken:
            return replace(self, differences=())
        llm = with_settings(llm, cell.settings)
        file = Path(spec.config["model_path"]) if llm.kind.needs == "model" else None
        settings = [line for line in self.differences if line.startswith("llm.")]
        same_model = () if any(map(_is_model, settings)) else ("llm.model_path",)
        return replace(
            self,
            llm=llm,
            spec=replace(spec, config=llm.resolved(file)),
            differences=(
                *(line for line in self.differences if line not in settings),
                *setting_lines(cell.setup.llm, llm, same_model),
            ),
        )

    def workload_difference(self, test: RecordedTest) -> str:
        """Describe how a test's workload differs on this side; empty if it is the same."""
        work = self.changed.get(test.nodeid)
        if work is None:
            return ""
        details = difference(work.digests, test.workload.digests, self.name)
        if work.summary == test.workload.summary:
            details = f"{details or 'of the same size'}; {ADVICE}"
        text = f"{self.name} measured {work.summary}: a different workload, so not compared"
        return f"{text}: {details}" if details else text


def _is_model(difference: str) -> bool:
    return difference.startswith("llm.model_path: ")


def setup_side(name: str, own: EngineSetup, setup: EngineSetup) -> BaseSide:
    """Return another configuration as the base side, for this session's recording of the tests.

    Args:
        name: its name in reports.
        own: this session's configuration.
        setup: the other one.
    """
    return BaseSide(
        name,
        setup.spec,
        setup.llm,
        setting_lines(own.llm, setup.llm),
        identity={
            "llm": setup.llm.model_dump(mode="json", exclude={"model_path"}),
            "model": setup.model_identity,
        },
    )


def config_side(context: SessionContext, path: Path) -> BaseSide:
    """Return the base side of another configuration file.

    Settings from the environment apply to both sides, overrides only to the candidate; the
    file's ``perf`` section is not used.

    Raises:
        ConfigError: the file is wrong; the message names every problem.
    """
    from pytest_llmperf.packages.environment import Environment

    root = context.root
    loaded = load_config(path, context.project, os.environ, ())
    setup = set_up_engine(loaded, context.project, context.import_paths)
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    side = setup_side(name, context.setup, setup)
    if not workload_may_differ(context.setup, setup):
        return side
    shared = Environment(sys.executable, shared=True, note="")
    top = root.resolve()
    tree = OtherTree(name, top, shared, (), top, top, config_file=path)
    return replace(side, tree=tree)


def workload_may_differ(own: EngineSetup, setup: EngineSetup) -> bool:
    """Whether a test's workload may differ with the other configuration's engine."""
    return any(getattr(own.llm, key, None) != getattr(setup.llm, key, None) for key in _OTHER_WORK)


def setting_lines(own: LlmConfig, other: LlmConfig, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the engine settings that differ, one line each, except those in ``without``."""
    from pytest_llmperf.baselines.match import setting_differences

    differences = setting_differences(own.resolved(), other.resolved())
    return tuple(
        f"{d.item}: base {d.baseline}, candidate {d.current}"
        for d in differences
        if d.item not in without
    )


def sides_of(
    setup: EngineSetup, base: BaseSide | None, tests: Sequence[RecordedTest]
) -> list[Side]:
    """Return the candidate and, if there is one, the base."""
    specs = specs_of(tests, setup.spec, lambda cell: cell.setup.spec)
    sides = [Side(CANDIDATE, "candidate", setup.starter(), specs=specs)]
    if base is not None and base.spec is not None:
        own: dict[str, Workload | None] = dict(base.changed)
        own |= dict.fromkeys((*base.absent, *base.broken))
        base_specs = {test.nodeid: base.for_test(test).spec or base.spec for test in tests}
        name, start = f"base ({base.name})", starter_of(base.spec)
        sides.append(Side(BASE, name, start, own, base_specs if specs else {}))
    return sides
