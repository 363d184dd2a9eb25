"""Builds a session's context from pytest's options."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.plugin.console import TerminalConsole
from pytest_llmperf.plugin.options import Options, usage_error
from pytest_llmperf.plugin.record_elsewhere import record_elsewhere
from pytest_llmperf.plugin.settings import given_roots, import_paths, settings_of
from pytest_llmperf.plugin.xdist_mode import is_xdist_worker
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.repository.revisions import Revision, resolve
from pytest_llmperf.session.base_side import SideError
from pytest_llmperf.session.baseline_source import check_baselines_at
from pytest_llmperf.session.commit_checkout import repository_of
from pytest_llmperf.session.context import SessionContext, SessionRequest
from pytest_llmperf.session.machine_watch import FitWait


def session_context(config: pytest.Config, console: TerminalConsole) -> SessionContext:
    """Return the session's context.

    Raises:
        pytest.UsageError: the configuration is wrong, or a named commit does not exist.
    """
    options, setup = Options.of(config), settings_of(config).setup
    waiting = setup.perf.wait_fit if options.wait_fit is None else options.wait_fit
    base: Revision | Path | None = options.against_config
    baselines: Revision | None = None
    # A worker of pytest-xdist measures nothing.
    if not is_xdist_worker(config):
        baselines, commit = check_revisions(config)
        _check_baselines(setup.loaded.baselines_dir, baselines)
        base = commit or base
    request = SessionRequest(
        base=base,
        baselines_from=baselines,
        record=options.record,
        accept=options.accept,
        strict=options.strict,
        confirming=options.confirming,
        output_files=options.output_files(config),
        how_to_confirm="--llmperf-confirm auto",
    )
    return SessionContext(
        setup=setup,
        wait=FitWait(waiting or 0.0, console.line),
        request=request,
        console=console,
        record_elsewhere=partial(record_elsewhere, config),
        import_paths=import_paths(config),
        import_roots=given_roots(),
    )


def check_revisions(config: pytest.Config) -> tuple[Revision | None, Revision | None]:
    """Return the commit to read baselines from, and the one to compare with, if any.

    Raises:
        pytest.UsageError: a commit does not exist.
    """
    options = Options.of(config)
    asked = {
        "--llmperf-baselines-from": options.baselines_from,
        "--llmperf-against": options.against,
    }
    baselines, against = (_resolve(config, option, rev) for option, rev in asked.items())
    return baselines, against


def _check_baselines(folder: Path, revision: Revision | None) -> None:
    """Check now that the commit's baselines can be read; they are read after the tests' bodies.

    Raises:
        pytest.UsageError: they can't.
    """
    try:
        if revision is not None:
            check_baselines_at(BaselineStore(folder), revision)
    except (GitError, BaselineError) as error:
        raise usage_error(f"--llmperf-baselines-from: {error}") from None


def _resolve(config: pytest.Config, option: str, asked: str | None) -> Revision | None:
    if asked is None:
        return None
    try:
        return resolve(repository_of(config.rootpath, option), asked)
    except (GitError, SideError) as error:
        raise usage_error(f"{option}: {error}") from None
