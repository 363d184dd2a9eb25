"""The requested base of a comparison: checks it out, records its tests, removes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.config.load import load_config
from pytest_llmperf.engine.loaded_modules import labelled_as_engine, loaded_modules
from pytest_llmperf.packages.environment import Environment
from pytest_llmperf.packages.roots import import_roots, own_modules
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.state import changed_since
from pytest_llmperf.session.base_side import BaseSide, setup_side, workload_may_differ
from pytest_llmperf.session.commit_checkout import (
    CommitCheckout,
    check_out_commit,
    foreign_module,
    repository_of,
)
from pytest_llmperf.session.commit_side import commit_side, recorded_side
from pytest_llmperf.session.errors import SideError
from pytest_llmperf.session.other_tree import OtherTree
from pytest_llmperf.session.setup import set_up_engine

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest


class ChosenBase:
    """The other commit or configuration that a session was asked to compare with, or none."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._side: BaseSide | None = None
        self._checkout: CommitCheckout | None = None

    def prepare(self) -> None:
        """Read the other configuration, or check the other commit out; nothing is loaded.

        Raises:
            ConfigError: the other configuration is wrong.
            SideError, GitError: the commit can't be checked out.
        """
        context, base = self._context, self._context.request.base
        if isinstance(base, BaseSide):
            self._side = base
        elif isinstance(base, Path):
            self._side = config_side(context, base)
        elif base is not None:
            if context.record_elsewhere is None:
                raise SideError("tests of another commit can't be recorded here; use pytest")
            repository = repository_of(context.root, "the base")
            # Needed again after the bodies have run, so problems are reported now.
            changed_since(repository, base.commit)
            self._checkout = check_out_commit(
                context.root,
                repository,
                base,
                context.console.line,
                context.setup.perf.base_install,
                import_roots=context.import_roots,
            )

    def side(
        self,
        tests: Sequence[RecordedTest],
        info: EngineInfo,
        collected: Sequence[str] | None,
        origins: Mapping[str, str],
    ) -> BaseSide | None:
        """Record the tests at the base where that is needed, and return it; None without one.

        Args:
            tests: the session's tests; its own engine has freed the device.
            info: of that engine.
            collected: node ids of all perf tests of this session; None if that is unknown.
            origins: where this session's own modules came from.

        Raises:
            SideError: the base can't be used.
            GitError: git can't list the differences.
            RuntimeError: ``prepare`` was not called.
        """
        if self._checkout is not None:
            if text := foreign_module(origins, self._checkout.repository.top, "this session"):
                raise SideError(text)
            return commit_side(self._context, self._checkout, tests, info, collected)
        if self._side is not None:
            return recorded_side(self._context, self._side, tests)
        if self._context.request.base is not None:
            raise RuntimeError("the base was not prepared: call Session.prepare() first")
        return None

    def close(self) -> None:
        """Remove the other commit's tree."""
        if self._checkout is not None:
            self._checkout.close()


def config_side(context: SessionContext, path: Path) -> BaseSide:
    """Return the base side of another configuration file.

    The environment's settings hold for both sides, overrides for the session's own only; the
    file's ``perf`` section is not used.

    Raises:
        ConfigError: naming everything that is wrong with it.
    """
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


def module_origins(context: SessionContext, engine: LlmEngine) -> dict[str, str]:
    """Return the files that the project's modules were imported from, here and in the engine.

    The engine must still be running. Empty where nothing is compared with another commit.
    """
    root, base = context.root, context.request.base
    confirms = base is None and context.confirming in ("auto", "always")
    if not confirms and (base is None or isinstance(base, Path | BaseSide)):
        return {}
    try:
        if Repository.around(root) is None:
            return {}
    except GitError:
        # Options that need git were refused before; a note says why no commit is recorded.
        return {}
    names = own_modules(root, (*context.import_roots, *import_roots(root, root)))
    return {**loaded_modules(names), **labelled_as_engine(engine.modules(names))}
