"""What a session is compared with, from the command line to the arm: brought, recorded, removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from pytest_llmperf.engine.loaded_modules import in_engine, loaded_modules
from pytest_llmperf.packages.roots import import_roots, own_modules
from pytest_llmperf.plugin.against import Against, against_config, set_against
from pytest_llmperf.plugin.base_arm import against_commit, with_recording
from pytest_llmperf.plugin.base_commit import Place, foreign, prepare, repository_of
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.recording import Recording
from pytest_llmperf.plugin.recording_there import ArmError
from pytest_llmperf.plugin.settings import Settings, given_roots
from pytest_llmperf.plugin.usage import usage_error
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.revisions import Revision, resolve


class SessionBase:
    """The base of one session: another commit, another configuration, or none.

    Args:
        config: pytest's.
        settings: the session's own arm.
        options: what the command line asked for.
        console: where progress is shown.
    """

    def __init__(
        self, config: pytest.Config, settings: Settings, options: Options, console: Console
    ) -> None:
        self._config = config
        self._settings = settings
        self._options = options
        self._console = console
        self._against: Against | None = None
        self._place: Place | None = None

    def prepare(self) -> None:
        """Bring what the session is to be compared with, before anything is loaded.

        Raises:
            pytest.UsageError: the other configuration is wrong, or the commit can't be had.
        """
        options, config = self._options, self._config
        if options.against_config is not None:
            self._against = against_config(config, options.against_config)
            set_against(config, self._against)
        _, revision = check_revisions(config)
        if revision is None:
            return
        try:
            self._place = prepare(
                config.rootpath,
                repository_of(config.rootpath, "--llmperf-against"),
                revision,
                self._console.line,
                self._settings.loaded.config.perf.base_install,
            )
        except (GitError, ArmError) as error:
            raise usage_error(f"--llmperf-against: {error}") from None

    def own_origins(self) -> dict[str, str]:
        """Return where this session imported the project's modules from; nothing outside of git.

        The engine has to be alive still.
        """
        root = self._config.rootpath
        try:
            if Repository.around(root) is None:
                return {}
        except GitError as error:
            # What needs git was refused before; what was measured does not.
            self._console.line(f"no commit is recorded, because git can't be asked: {error}")
            return {}
        names = own_modules(root, (*given_roots(), *import_roots(root, root)))
        return {**loaded_modules(names), **in_engine(self._settings.engine.modules(names))}

    def arm(
        self, held: Sequence[Recording], collected: Sequence[str], origins: Mapping[str, str]
    ) -> Against | None:
        """Record the held tests at the base where that is needed, and return it; None without one.

        The session's own engine has freed the device. ``collected`` are all its perf
        tests, ``origins`` as ``own_origins`` gave them.

        Raises:
            ArmError: the base can't be used.
            GitError: git can't say what differs.
        """
        say = self._console.line
        if self._place is not None:
            if text := foreign(origins, self._place.repository.top, "this session"):
                raise ArmError(text)
            self._against = against_commit(self._config, self._place, held, say, collected)
        elif self._against is not None and (there := self._against.there) is not None:
            self._against = with_recording(self._config, self._against, there, held, say)
        set_against(self._config, self._against)
        return self._against

    def close(self) -> None:
        """Remove the other commit's tree."""
        if self._place is not None:
            self._place.close()


def check_revisions(config: pytest.Config) -> tuple[Revision | None, Revision | None]:
    """Return the commits that baselines are read from and that is compared with, if any.

    Raises:
        pytest.UsageError: one does not exist.
    """
    options = Options.of(config)
    asked = {
        "--llmperf-baselines-from": options.baselines_from,
        "--llmperf-against": options.against,
    }
    baselines, against = (_resolve(config, option, rev) for option, rev in asked.items())
    return baselines, against


def _resolve(config: pytest.Config, option: str, asked: str | None) -> Revision | None:
    if asked is None:
        return None
    try:
        return resolve(repository_of(config.rootpath, option), asked)
    except (GitError, ArmError) as error:
        raise usage_error(f"{option}: {error}") from None
