"""Builds the base side from a recording of the same tests at another commit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.words import count
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.repository.state import below_top, changed_since, state_of
from pytest_llmperf.session.base_side import BaseSide, SideError, setting_lines
from pytest_llmperf.session.commit_checkout import CommitCheckout, foreign_module
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from pytest_llmperf.config.llm_section import LlmConfig
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.session.base_recording import BaseRecording, OtherTree
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup


def commit_side(
    context: SessionContext,
    checkout: CommitCheckout,
    tests: Sequence[RecordedTest],
    info: EngineInfo,
    collected: Mapping[str, bool] | None = None,
) -> BaseSide:
    """Record the tests at the commit and return it as the base side.

    Args:
        context: the session's context.
        checkout: the commit's tree.
        tests: the session's tests.
        info: what the session's engine loaded.
        collected: all tests that this session found, before any was deselected, and whether each
            is a perf test; shows which exist only at the base. None if some may be missing.

    Raises:
        SideError: the commit's tests can't be recorded, or both sides would run the same code.
    """
    recording = _record(context, checkout.tree(), tests, f"at {checkout.name}")
    top = checkout.files.top
    if text := foreign_module(recording.origins, top, f"the base ({checkout.name})"):
        raise SideError(text)
    changed, absent, broken = _relations(tests, recording, checkout.name)
    removed = [] if collected is None else _removed(recording, collected, context.root)
    notes = [f"base {checkout.name}: {checkout.revision.subject}"]
    if not checkout.environment.shared:
        notes.append(f"{checkout.name} has its {checkout.environment.note}")
    if removed:
        notes.append(f"removed since {checkout.name}: {', '.join(removed)}")
    for name in checkout.files.empty_submodules:
        notes.append(
            f"submodule {name} can't be filled from this clone, so it is empty at {checkout.name}"
        )
    culprit, bisect_from = "", None
    with suppress(GitError):
        culprit, bisect_from = _culprit(checkout, context.baselines_dir)
    has_tests = recording.spec is not None
    settings = _settings(recording, checkout.name) if has_tests else None
    return BaseSide(
        name=checkout.name,
        spec=recording.spec,
        llm=settings,
        differences=_differences(context.setup, info, checkout, recording, settings)
        if settings is not None
        else (),
        changed=changed,
        absent=absent,
        broken=broken,
        notes=tuple(notes),
        identity=_identity(checkout, recording) if has_tests else {},
        commit=checkout.revision.commit,
        culprit=culprit,
        bisect_from=bisect_from,
    )


def recorded_side(
    context: SessionContext, base: BaseSide, tests: Sequence[RecordedTest]
) -> BaseSide:
    """Record the tests with another configuration and return it as the base side.

    Raises:
        SideError: they can't be recorded with it.
    """
    if base.tree is None:
        return base
    recording = _record(context, base.tree, tests, f"with {base.name}")
    changed, absent, broken = _relations(tests, recording, base.name)
    return replace(base, changed=changed, absent=absent, broken=broken)


def _record(
    context: SessionContext, tree: OtherTree, tests: Sequence[RecordedTest], where: str
) -> BaseRecording:
    if context.record_elsewhere is None:
        raise SideError(f"tests can't be recorded {where} from here; run them with pytest")
    context.console.line(f"recording {count(len(tests), 'test')} {where}")
    return context.record_elsewhere(tree, [test.nodeid for test in tests])


def _settings(recording: BaseRecording, name: str) -> LlmConfig:
    """Return the engine settings of the base.

    Raises:
        SideError: they are not valid here, such as an engine that is not installed.
    """
    try:
        settings = recording.settings()
        _ = settings.kind
    except (ValueError, LookupError) as error:
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise SideError(
            f"the engine settings of {name} can't be used here: {reason}; install what that "
            "commit's configuration needs, or compare with another commit"
        ) from None
    return settings


def _removed(recording: BaseRecording, collected: Mapping[str, bool], root: Path) -> list[str]:
    """Return the base's perf tests that no longer exist in this session's tree.

    Tests of a file that exists but was not collected (``--ignore``, ``--lf``) are left out.
    """
    files = {nodeid.partition("::")[0] for nodeid in collected}
    gone = []
    for nodeid in recording.collected:
        file = nodeid.partition("::")[0]
        if not collected.get(nodeid) and (file in files or not (root / file).exists()):
            gone.append(nodeid)
    return gone


def _relations(
    tests: Sequence[RecordedTest], recording: BaseRecording, name: str
) -> tuple[dict[str, Workload], dict[str, str], dict[str, str]]:
    """Return the tests that changed, are absent or broken at the base."""
    changed: dict[str, Workload] = {}
    absent: dict[str, str] = {}
    broken: dict[str, str] = {}
    for test in tests:
        nodeid = test.nodeid
        work = recording.workloads.get(nodeid)
        if work is not None:
            if work.hash != test.workload.hash:
                changed[nodeid] = work
        elif nodeid in recording.problems:
            absent[nodeid] = f"can't be compared with {name}: {recording.problems[nodeid]}"
        elif text := _why_broken(nodeid, recording.broken):
            broken[nodeid] = f"base ({name}): {text}"
        elif nodeid in recording.collected:
            broken[nodeid] = f"base ({name}): the session there ended before this test ran"
        else:
            absent[nodeid] = f"added: {name} has no such test"
    return changed, absent, broken


def _why_broken(nodeid: str, broken: Mapping[str, str]) -> str:
    """Return why a test, or its file or class, is broken at the base; or ""."""
    for collector, text in broken.items():
        if nodeid == collector or nodeid.startswith((f"{collector}::", f"{collector}/")):
            return text
    return ""


def _differences(
    setup: EngineSetup,
    info: EngineInfo,
    checkout: CommitCheckout,
    recording: BaseRecording,
    settings: LlmConfig,
) -> tuple[str, ...]:
    own, model = setup.llm, setup.model_identity
    engine = f"{info.engine} {info.engine_version}"
    lines = list(_code(checkout, setup.loaded.baselines_dir))
    lines += _config_files(setup.loaded.path, checkout, recording)
    same_model = model == recording.model
    lines += setting_lines(own, settings, ("llm.model_path",) if same_model else ())
    if not same_model and setup.model is not None:
        lines.append(f"model SHA-256: base {recording.model[:12]}, candidate {model[:12]}")
    # An engine that did not start has no version, and its kind is among the settings.
    if recording.engine and engine != recording.engine:
        lines.append(f"engine: base {recording.engine}, candidate {engine}")
    layers = info.gpu.share if info.gpu is not None else ""
    if layers and recording.layers and layers != recording.layers:
        lines.append(f"layers on a GPU: base {recording.layers}, candidate {layers}")
    return tuple(lines)


def _config_files(
    own_file: Path | None, checkout: CommitCheckout, recording: BaseRecording
) -> list[str]:
    """Return a line if the configuration file differs at the base, or does not exist."""
    base_file = Path(recording.config_file) if recording.config_file else None
    names = [
        "none (defaults)"
        if file is None
        else os.path.relpath(file.resolve(), top)
        if file.resolve().is_relative_to(top)
        else str(file)
        for file, top in (
            (base_file, checkout.files.top.resolve()),
            (own_file, checkout.repository.top),
        )
    ]
    same = names[0] == names[1]
    return [] if same else [f"configuration: base {names[0]}, candidate {names[1]}"]


def _code(checkout: CommitCheckout, baselines: Path) -> list[str]:
    """Return a line that says how many files differ from the commit, and how to list them."""
    exclude = _recorded(checkout, baselines)
    try:
        changed = changed_since(checkout.repository, checkout.revision.commit, exclude)
    except GitError as error:
        return [f"code: {error}"]
    if not changed:
        return []
    untracked = sorted(path for path, unknown in changed.items() if unknown)
    parts = []
    if tracked := len(changed) - len(untracked):
        differ = "differs" if tracked == 1 else "differ"
        parts.append(
            f"{count(tracked, 'file')} {differ} (git diff --stat {checkout.revision.short})"
        )
    if untracked:
        more = f" and {len(untracked) - 1} more" if len(untracked) > 1 else ""
        # Reports can't show every character that a file name may have.
        first = printable(untracked[0])
        parts.append(f"{count(len(untracked), 'file')} not tracked by git ({first}{more})")
    return [f"code: {', and '.join(parts)}"]


def _recorded(checkout: CommitCheckout, baselines: Path) -> list[str]:
    """Return the baselines folder, which contains no code, relative to the repository's top."""
    folder = below_top(checkout.repository, baselines)
    return [] if folder is None else [folder]


def _culprit(checkout: CommitCheckout, baselines: Path) -> tuple[str, str | None]:
    """Return what to blame for a regression, and where a search for it would start.

    Raises:
        GitError: git has failed since the session began.
    """
    repository, base = checkout.repository, checkout.revision
    head = repository.head()
    dirty = state_of(repository, _recorded(checkout, baselines)) != head
    if head == base.commit:
        return "the uncommitted changes made it slower", None
    if dirty:
        text = (
            f"what changed since {checkout.name} made it slower, uncommitted changes included; "
            "once they are committed, llmperf bisect finds the commit"
        )
        return text, None
    assert head is not None
    if repository.commit("HEAD^") == base.commit and repository.commit("HEAD^2") is None:
        return f"commit {head[:12]} ({repository.subject(head)}) made it slower", None
    return f"what changed since {checkout.name} made it slower; to find the commit:", base.name


def _identity(checkout: CommitCheckout, recording: BaseRecording) -> dict[str, Any]:
    """Return the identity of this side: code, environment, settings, model."""
    from pytest_llmperf.packages.fingerprint import fingerprint

    llm = {key: value for key, value in recording.llm.items() if key != "model_path"}
    trees = (checkout.files.top, checkout.repository.top)
    return {
        "state": checkout.revision.commit,
        "environment": fingerprint(recording.python, recording.path, trees),
        "llm": llm,
        "model": recording.model,
        "engine": recording.engine,
    }
