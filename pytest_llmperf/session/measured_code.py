"""The code, environment and engine that a session measures, compared with a stored session's."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.match import work_differences
from pytest_llmperf.baselines.record import Loaded, Provenance
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.state import (
    below_top,
    content_digest,
    ignored,
    state_of,
    work_tree_digest,
)
from pytest_llmperf.session.facts import SessionFacts

if TYPE_CHECKING:
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest

_DIGITS = 20


class MeasuredCode:
    """The code, environment and engine of this session; each part is read once, on demand.

    Args:
        context: the session's context.
        facts: the session's facts.
    """

    def __init__(self, context: SessionContext, facts: SessionFacts) -> None:
        self._context = context
        self._facts = facts
        self._contents: dict[str, str | None] = {}

    @cached_property
    def provenance(self) -> Provenance:
        """The session's provenance, with digests of its code and environment."""
        return replace(self._facts.provenance, code=self._code, environment=self._environment)

    @cached_property
    def identity(self) -> Mapping[str, Any] | None:
        """The identity of the code and engine of this side, plain JSON; None if git can't tell."""
        from pytest_llmperf.packages.fingerprint import fingerprint

        repository, facts = self._repository, self._facts
        if repository is None or self._modules is None:
            return None
        try:
            state = state_of(repository, own_files(self._context, repository))
        except GitError:
            return None
        return {
            "state": state,
            "ignored": self._modules,
            "environment": fingerprint(sys.version, sys.path, (repository.top,)),
            "llm": {k: v for k, v in facts.config.items() if k != "model_path"},
            "model": facts.model.sha256 or facts.model.name,
            "engine": f"{facts.info.engine} {facts.info.engine_version}",
            "build": facts.info.build_flags,
        }

    def has_code_of(self, stored: StoredRecord) -> bool:
        """Whether a stored session measured the same files, recorded baselines excepted."""
        theirs = stored.record.provenance
        if theirs.code is not None and theirs.code == self.provenance.code:
            return True
        return theirs.commit is not None and not theirs.dirty and self.is_code_of(theirs.commit)

    def is_code_of(self, commit: str) -> bool:
        """Whether the work tree has a commit's tracked files, recorded baselines excepted."""
        head, dirty = self._facts.provenance.commit, self._facts.provenance.dirty
        if head is None or dirty:
            return False
        return head == commit or self._content(head) == self._content(commit) is not None

    def differences(self, stored: StoredRecord, test: RecordedTest) -> list[str]:
        """Return what differs, or may differ, between a test here and in a stored session.

        Empty if code, configuration, packages, engine and model are the same: then only the
        machine, which is not compared, can have changed the speed.
        """
        return list(self._differences(stored, test))

    def _differences(self, stored: StoredRecord, test: RecordedTest) -> Iterator[str]:
        record, ours, facts = stored.record, self.provenance, self._facts.for_test(test)
        theirs = record.provenance
        if theirs.code is None or theirs.code != ours.code:
            known = theirs.code is not None and ours.code is not None
            if not self.has_code_of(stored):
                yield "the code"
            elif known:
                yield "files that git does not know"
        differences = work_differences(stored, ours, facts.config, test.nodeid)
        yield from (f"{d.item} (base {d.baseline}, candidate {d.current})" for d in differences)
        if theirs.backend != ours.backend:
            yield f"the backend (base {theirs.backend}, candidate {ours.backend})"
        loaded = record.loaded_of(test.nodeid)
        if loaded is None or _without_reason(loaded) != _without_reason(facts.loaded):
            yield "what the engine loaded"
        if theirs.environment is None or ours.environment is None:
            yield "the installed packages, which its record lacks"
        elif theirs.environment != ours.environment:
            yield "the installed packages, or variables of the engine's libraries"

    @cached_property
    def _repository(self) -> Repository | None:
        try:
            return Repository.around(self._context.root)
        except GitError:
            return None

    @cached_property
    def _code(self) -> str | None:
        repository = self._repository
        if repository is None:
            return None
        written = own_files(self._context, repository)
        try:
            return work_tree_digest(repository, written)
        except GitError:
            return None

    @cached_property
    def _modules(self) -> str | None:
        """Digest of the modules that git ignores; None if git can't list them."""
        from pytest_llmperf.packages.fingerprint import modules_digest

        repository = self._repository
        if repository is None:
            return None
        try:
            return modules_digest(repository.top, ignored(repository))
        except GitError:
            return None

    @cached_property
    def _environment(self) -> str | None:
        from pytest_llmperf.packages.fingerprint import deciding_variables, fingerprint

        repository = self._repository
        if repository is None or self._modules is None:
            return None
        packages = fingerprint(sys.version, sys.path, (repository.top,), with_times=False)
        text = json.dumps([packages, self._modules, deciding_variables(os.environ)])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]

    def _content(self, commit: str) -> str | None:
        """Return the digest of a commit's files, baselines excepted; None if it is missing."""
        repository = self._repository
        if repository is not None and commit not in self._contents:
            folder = below_top(repository, self._context.baselines_dir)
            try:
                digest = content_digest(repository, commit, [folder] if folder else [])
            except GitError:
                digest = None
            self._contents[commit] = digest
        return self._contents.get(commit)


def own_files(context: SessionContext, repository: Repository) -> list[str]:
    """Return the paths of files that this session writes, which are not code, below the top."""
    written = (context.baselines_dir, *context.request.output_files)
    paths = (below_top(repository, path) for path in written)
    return [path for path in paths if path is not None]


def _without_reason(loaded: Loaded) -> Loaded:
    """Drop the explanation of why layers are where they are."""
    return replace(loaded, placement="")
