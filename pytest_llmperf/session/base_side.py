"""The base side of a comparison: another configuration, or another commit, run interleaved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.request_digest import ADVICE, difference
from pytest_llmperf.session.other_tree import OtherTree
from pytest_llmperf.session.setup import EngineSetup

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import LlmConfig
    from pytest_llmperf.engine.client import LaunchSpec
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.recorded import RecordedTest

#: Whether a test asks both sides for the same work, for other work, or is on one side only.
Relation = Literal["same", "changed", "absent"]


@dataclass(frozen=True)
class BaseSide:
    """What this session's own side, the candidate, is compared with.

    Attributes:
        name: what reports call it: its file, or the commit.
        spec: how its engine processes are started; None where it has no test of this session.
        llm: its engine settings; None as ``spec``.
        differences: what differs besides the code, ``key: 1 there, 2 here``.
        changed: workloads of the tests that ask for other work there, by node id.
        absent: why a test has no counterpart there, by node id.
        broken: why a test can't be compared although it may be there, by node id.
        notes: what else to know of it, one line each.
        identity: what distinguishes this base from any other, plain JSON; empty where unknown.
        commit: its hash, where it is another commit.
        culprit: what a regression against that commit is to be put down to.
        bisect_from: what `llmperf bisect` starts from to find it; None where nothing is to find.
        tree: where another configuration's tests have to be recorded, because its engine
            may make other work of them; None where this session's recording holds for both.
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
        """Say how a test's work on this side relates to the candidate's."""
        if self.spec is None or nodeid in self.absent or nodeid in self.broken:
            return "absent"
        return "changed" if nodeid in self.changed else "same"

    def other_work(self, test: RecordedTest) -> str:
        """Say what a test asks of this side otherwise; empty where it asks for the same."""
        work = self.changed.get(test.nodeid)
        if work is None:
            return ""
        found = difference(work.digests, test.workload.digests, self.name)
        if work.summary == test.workload.summary:
            found = f"{found or 'of the same size'}; {ADVICE}"
        text = f"{self.name} measured {work.summary}: other work, so not judged as equal"
        return f"{text}: {found}" if found else text


#: Settings that make another engine: what a test asks of it may become other work.
_OTHER_WORK = ("engine", "target", "model_path", "chat_format")


def setup_side(name: str, own: EngineSetup, setup: EngineSetup) -> BaseSide:
    """Return the base side of another configuration, from what this session recorded.

    Args:
        name: what reports call it.
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


def may_ask_other_work(own: EngineSetup, setup: EngineSetup) -> bool:
    """Whether the other configuration's engine may make other work of the same test."""
    return any(getattr(own.llm, key) != getattr(setup.llm, key) for key in _OTHER_WORK)


def setting_lines(own: LlmConfig, other: LlmConfig, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Name the engine settings that differ, one line each, but those in ``without``."""
    from pytest_llmperf.baselines.match import setting_differences

    found = setting_differences(own.resolved(), other.resolved())
    return tuple(
        f"{d.item}: {d.baseline} there, {d.current} here" for d in found if d.item not in without
    )


def sides_of(setup: EngineSetup, base: BaseSide | None) -> list[Side]:
    """Return the candidate and, where there is something to compare with, the base."""
    sides = [Side(CANDIDATE, "candidate", setup.starter())]
    if base is not None and base.spec is not None:
        own: dict[str, Workload | None] = dict(base.changed)
        own |= dict.fromkeys((*base.absent, *base.broken))
        sides.append(Side(BASE, f"base ({base.name})", partial(EngineClient.start, base.spec), own))
    return sides
