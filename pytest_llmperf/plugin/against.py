"""The base arm of a session: another configuration, or another commit, run interleaved with it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.measure.arms import Arm
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.packages.environment import Environment
from pytest_llmperf.plugin.gpu_requirement import starter
from pytest_llmperf.plugin.recording_there import There
from pytest_llmperf.plugin.settings import (
    Settings,
    load_file,
    model_identity,
    settings_of,
    spec_of,
)
from pytest_llmperf.request_digest import ADVICE, difference

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import LlmConfig
    from pytest_llmperf.engine.client import LaunchSpec
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.plugin.recording import Recording

#: Whether a test asks for the same work in both arms, for other work, or is in one only.
Standing = Literal["same", "changed", "absent"]


@dataclass(frozen=True)
class Against:
    """The base arm: what the session's own is compared with.

    Attributes:
        name: what reports call it: its file, or the commit.
        spec: how its engine processes are started; None where no test of this session is
            in it.
        llm: its engine settings; None as ``spec``.
        differences: what differs besides the code, ``key: 1 there, 2 here``.
        changed: workloads of the tests that ask for other work there, by node id.
        absent: why a test has no counterpart there, by node id.
        broken: why a test can't be compared although it may be there, by node id.
        notes: what else to know of it, one line each.
        identity: what tells this base from any other, plain JSON; empty where nobody can.
        commit: its hash, where it is another commit.
        culprit: what a regression against that commit is to be put down to.
        bisect_from: what `llmperf bisect` starts from to find it; None where nothing is to find.
        there: where another configuration's tests have to be recorded, because its engine
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
    there: There | None = None

    def standing(self, nodeid: str) -> Standing:
        """Say how a test of this session stands to the base arm's."""
        if self.spec is None or nodeid in self.absent or nodeid in self.broken:
            return "absent"
        return "changed" if nodeid in self.changed else "same"


#: Settings that make another engine: what a test asks of it may become other work.
_OTHER_WORK = ("engine", "target", "model_path", "chat_format")

_KEY = pytest.StashKey[Against | None]()


def set_against(config: pytest.Config, against: Against | None) -> None:
    """Make a base arm, or that there is none, known to what has to know of both arms."""
    config.stash[_KEY] = against


def current_against(config: pytest.Config) -> Against | None:
    """Return the base arm where this session has one."""
    return config.stash.get(_KEY, None)


def against_config(config: pytest.Config, path: Path) -> Against:
    """Return the base arm of another configuration file.

    The environment's settings hold for both arms, the command line's
    (``--llmperf-set``) for the session's own only; the file's ``perf`` section
    is not used.

    Raises:
        pytest.UsageError: naming everything that is wrong with it.
    """
    loaded = load_file(config, path, ())
    spec, model = spec_of(config, loaded)
    here, other = settings_of(config).loaded.config.llm, loaded.config.llm
    try:
        name = str(path.relative_to(config.rootpath))
    except ValueError:
        name = str(path)
    there = None
    if any(getattr(here, key) != getattr(other, key) for key in _OTHER_WORK):
        top = config.rootpath.resolve()
        shared = Environment(sys.executable, shared=True, note="")
        there = There(name, top, shared, (), top, top, config_file=path)
    return Against(
        name,
        spec,
        other,
        setting_lines(here, other),
        identity={
            "llm": other.model_dump(mode="json", exclude={"model_path"}),
            "model": model_identity(model, other),
        },
        there=there,
    )


def setting_lines(
    here: LlmConfig, there: LlmConfig, without: Sequence[str] = ()
) -> tuple[str, ...]:
    """Name the engine settings that differ, one line each, but those in ``without``."""
    from pytest_llmperf.baselines.match import setting_differences

    found = setting_differences(here.resolved(), there.resolved())
    return tuple(
        f"{d.item}: {d.baseline} there, {d.current} here" for d in found if d.item not in without
    )


def arms_of(settings: Settings, against: Against | None) -> list[Arm]:
    """Return the session's own arm and, where there is something to compare with, the base."""
    arms = [Arm(CANDIDATE, "candidate", starter(settings))]
    if against is not None and against.spec is not None:
        own: dict[str, Workload | None] = dict(against.changed)
        own |= dict.fromkeys((*against.absent, *against.broken))
        start = partial(EngineClient.start, against.spec)
        arms.append(Arm(BASE, f"base ({against.name})", start, own))
    return arms


def what_is_other(against: Against, recording: Recording) -> str:
    """Say what a test asks the base arm for otherwise; empty where it asks for the same."""
    work = against.changed.get(recording.item.nodeid)
    if work is None:
        return ""
    found = difference(work.digests, recording.workload.digests, against.name)
    if work.summary == recording.workload.summary:
        found = f"{found or 'of the same size'}; {ADVICE}"
    told = f"{against.name} measured {work.summary}: other work, so not judged as equal"
    return f"{told}: {found}" if found else told
