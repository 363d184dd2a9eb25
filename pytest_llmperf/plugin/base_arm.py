"""The base arm, from what the same tests asked of the engine there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.plugin.against import Against, setting_lines
from pytest_llmperf.plugin.base_commit import Place, foreign
from pytest_llmperf.plugin.recording_there import ArmError, There, record
from pytest_llmperf.plugin.settings import Settings, model_identity, settings_of
from pytest_llmperf.repository.content import below_top
from pytest_llmperf.repository.state import changed_since, state_of

if TYPE_CHECKING:
    from pytest_llmperf.plugin.base_recording import BaseRecording
    from pytest_llmperf.plugin.recording import Recording


def against_commit(
    config: pytest.Config,
    place: Place,
    held: Sequence[Recording],
    say: Callable[[str], None],
    collected: Sequence[str] = (),
) -> Against:
    """Record the held tests at the commit and return it as the base arm.

    ``collected``: all perf tests of this session, for those that exist there only.

    Raises:
        ArmError: the commit's tests can't be recorded, or both arms would run the same code.
    """
    say(f"recording {len(held)} test{'s' if len(held) != 1 else ''} at {place.name}")
    found = record(config, place.there(), [recording.item.nodeid for recording in held])
    if text := foreign(found.origins, place.checkout.top, f"the base arm ({place.name})"):
        raise ArmError(text)
    changed, absent, broken = _standings(held, found, place.name)
    removed: list[str] = []
    if not any("::" in argument for argument in config.args):
        removed = [nodeid for nodeid in found.collected if nodeid not in {*collected}]
    notes = [f"base {place.name}: {place.revision.subject}"]
    if not place.environment.shared:
        notes.append(f"{place.name} has its {place.environment.note}")
    if removed:
        notes.append(f"removed since {place.name}: {', '.join(removed)}")
    for name in place.checkout.empty_submodules:
        notes.append(f"submodule {name} is not here, so it is empty at {place.name}")
    settings = settings_of(config)
    shared = found.spec is not None
    return Against(
        name=place.name,
        spec=found.spec,
        llm=found.settings() if shared else None,
        differences=_differences(settings, place, found) if shared else (),
        changed=changed,
        absent=absent,
        broken=broken,
        notes=tuple(note for note in notes if note),
        identity=_identity(place, found) if shared else {},
        commit=place.revision.commit,
        **_culprit(place, settings.loaded.baselines_dir),
    )


def with_recording(
    config: pytest.Config,
    against: Against,
    there: There,
    held: Sequence[Recording],
    say: Callable[[str], None],
) -> Against:
    """Record the held tests with another configuration's engine, and return that base arm.

    Raises:
        ArmError: they can't be recorded with it.
    """
    say(f"recording {len(held)} test{'s' if len(held) != 1 else ''} with {against.name}")
    found = record(config, there, [recording.item.nodeid for recording in held])
    changed, absent, broken = _standings(held, found, against.name)
    return replace(against, changed=changed, absent=absent, broken=broken)


def _standings(
    held: Sequence[Recording], found: BaseRecording, name: str
) -> tuple[dict[str, Workload], dict[str, str], dict[str, str]]:
    """Return the tests with other work there, those that have none, and those that broke."""
    changed: dict[str, Workload] = {}
    absent: dict[str, str] = {}
    broken: dict[str, str] = {}
    for recording in held:
        nodeid = recording.item.nodeid
        work = found.workloads.get(nodeid)
        if work is not None:
            if work.hash != recording.workload.hash:
                changed[nodeid] = work
        elif nodeid in found.problems:
            absent[nodeid] = f"{name} can't be compared with: {found.problems[nodeid]}"
        elif text := _why_broken(nodeid, found.broken):
            broken[nodeid] = f"base ({name}): {text}"
        elif nodeid in found.collected:
            broken[nodeid] = f"base ({name}): the session there ended before this test ran"
        else:
            absent[nodeid] = f"added: {name} has no such test"
    return changed, absent, broken


def _why_broken(nodeid: str, broken: Mapping[str, str]) -> str:
    """Return why a test, or the file or class that would hold it, broke there; or nothing."""
    for collector, text in broken.items():
        if nodeid == collector or nodeid.startswith((f"{collector}::", f"{collector}/")):
            return text
    return ""


def _differences(settings: Settings, place: Place, found: BaseRecording) -> tuple[str, ...]:
    here = settings.loaded.config.llm
    info, model = settings.engine.last_info, model_identity(settings.model, here)
    engine = f"{info.engine} {info.engine_version}" if info is not None else found.engine
    lines = list(_code(place, settings.loaded.baselines_dir))
    lines += _config_files(settings.loaded.path, place, found)
    same_model = model == found.model
    lines += setting_lines(here, found.settings(), ("llm.model_path",) if same_model else ())
    if not same_model and settings.model is not None:
        lines.append(f"model: SHA-256 {found.model[:12]} there, {model[:12]} here")
    # An engine that did not start told no version; of which kind it is, the settings say.
    if found.engine and engine != found.engine:
        lines.append(f"engine: {found.engine} there, {engine} here")
    layers = info.gpu.share if info is not None and info.gpu is not None else ""
    if layers and found.layers and layers != found.layers:
        lines.append(f"layers on a GPU: {found.layers} there, {layers} here")
    return tuple(lines)


def _config_files(here: Path | None, place: Place, found: BaseRecording) -> list[str]:
    """Say so where the configuration comes from another place there, or from none at all."""
    there = Path(found.config_file) if found.config_file else None
    names = [
        "no file, so defaults"
        if file is None
        else os.path.relpath(file.resolve(), top)
        if file.resolve().is_relative_to(top)
        else str(file)
        for file, top in ((there, place.checkout.top.resolve()), (here, place.repository.top))
    ]
    return [] if names[0] == names[1] else [f"configuration: {names[0]} there, {names[1]} here"]


def _code(place: Place, baselines: Path) -> list[str]:
    """Say how many files differ between the commit and the work tree, and how to see them."""
    exclude = _recorded(place, baselines)
    count = len(changed_since(place.repository, place.revision.commit, exclude))
    if not count:
        return []
    files = "1 file differs" if count == 1 else f"{count} files differ"
    return [f"code: {files} (git diff --stat {place.revision.short})"]


def _recorded(place: Place, baselines: Path) -> list[str]:
    """Return the folder of the baselines, from the top: what lies there is no code."""
    folder = below_top(place.repository, baselines)
    return [] if folder is None else [folder]


def _culprit(place: Place, baselines: Path) -> dict[str, Any]:
    """Say what lies between the commit and this work tree, and where a search would start."""
    repository, base = place.repository, place.revision
    head = repository.head()
    dirty = state_of(repository, _recorded(place, baselines)) != head
    if head == base.commit:
        return {"culprit": "it is the uncommitted changes that cost it"}
    if dirty:
        text = f"it is what changed since {place.name} that cost it, uncommitted changes included; "
        return {"culprit": f"{text}once they are committed, llmperf bisect finds the commit"}
    assert head is not None
    if repository.commit("HEAD^") == base.commit and repository.commit("HEAD^2") is None:
        return {"culprit": f"it is commit {head[:12]} ({repository.subject(head)}) that cost it"}
    text = f"it is what changed since {place.name} that cost it; to find the commit:"
    return {"culprit": text, "bisect_from": base.name}


def _identity(place: Place, found: BaseRecording) -> dict[str, Any]:
    """Return what tells this arm from any other: code, environment, settings, model."""
    from pytest_llmperf.packages.fingerprint import fingerprint

    llm = {key: value for key, value in found.llm.items() if key != "model_path"}
    trees = (place.checkout.top, place.repository.top)
    return {
        "state": place.revision.commit,
        "environment": fingerprint(found.python, found.path, trees),
        "llm": llm,
        "model": found.model,
        "engine": found.engine,
    }
