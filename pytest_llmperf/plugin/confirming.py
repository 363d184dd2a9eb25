"""Confirmation: what stored sessions make suspect is run against the commit they measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.origin import Origin, origin_of
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.environment.fitness import FitnessFinding
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count
from pytest_llmperf.plugin.against import Against, current_against, set_against
from pytest_llmperf.plugin.base_arm import against_commit
from pytest_llmperf.plugin.base_commit import foreign, prepare, repository_of
from pytest_llmperf.plugin.configured import stored_causes
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.facts import SessionFacts, gather_facts
from pytest_llmperf.plugin.judging import session_view
from pytest_llmperf.plugin.options import Confirming
from pytest_llmperf.plugin.recording_there import ArmError
from pytest_llmperf.plugin.settings import Settings
from pytest_llmperf.plugin.suspects import Suspect, fast_first, find_suspects
from pytest_llmperf.plugin.trial import Trial, Trials
from pytest_llmperf.report.fitness import machine_lines, merged_sessions
from pytest_llmperf.report.model import SessionView, TestReportView
from pytest_llmperf.report.text import in_short
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.provenance import read_provenance

if TYPE_CHECKING:
    pass

#: Why nothing is confirmed in a session that records.
_ON_REQUEST = "a session that records confirms on request: --llmperf-confirm auto"


class Confirmer:
    """Runs what is suspect against the commit of its baseline, and puts the verdicts in place.

    Args:
        config: pytest's.
        settings: the session's own arm.
        facts: machine, model and baselines.
        console: where plan and progress are shown.
        start_seconds: how long an engine process takes to start.
        origins: where this session's own modules were imported from.
        mode: ``auto`` for what is suspect, ``always`` for every test, ``never``, ``on request``.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        facts: SessionFacts,
        console: Console,
        start_seconds: float,
        origins: Mapping[str, str],
        mode: Confirming,
    ) -> None:
        self._config = config
        self._settings = settings
        self._facts = facts
        self._console = console
        self._start_seconds = start_seconds
        self._origins = origins
        self._mode = mode

    def confirmed(self, trial: Trial, view: SessionView) -> SessionView:
        """Return what the session has to say, with the verdicts that were confirmed.

        ``view``: what it says by its stored sessions.
        """
        if self._mode == "never":
            return view
        alpha = self._settings.loaded.config.perf.false_alarms
        records = self._facts.baselines.records
        suspects, unconfirmed = find_suspects(trial, records, every=self._mode == "always")
        if self._mode == "on request":
            names = (suspect.recording.item.nodeid for suspect in suspects)
            return _merged(view, {}, unconfirmed | dict.fromkeys(names, _ON_REQUEST), ())
        if not suspects and not unconfirmed:
            return view
        alone = len(suspects) + len(unconfirmed) == 1
        groups, homeless = self._grouped(suspects)
        unconfirmed |= homeless
        engines = self._engine_causes(suspects)
        share = _share(alpha, len(groups), alone=alone and not engines)
        found: dict[str, TestReportView] = {}
        views: list[SessionView] = []
        spent = trial.measurement.spent
        for origin, group in groups:
            try:
                seen, against, seconds = self._confirm(origin, group, share, spent)
            except (GitError, ArmError, BaselineError, EngineError) as error:
                # Such as a device that another session took meanwhile.
                unconfirmed |= {one.recording.item.nodeid: str(error) for one in group}
                continue
            views.append(seen)
            spent += seconds
            by_name = {test.nodeid: test for test in seen.tests}
            for suspect in group:
                nodeid = suspect.recording.item.nodeid
                test = by_name[nodeid]
                # Other work there was measured in pairs, too, and was compared with nothing.
                if against.standing(nodeid) != "same" or not test.pairs:
                    unconfirmed[nodeid] = _why_not(test, against)
                    continue
                if cause := _not_cleared(test, engines.get(nodeid, [])):
                    unconfirmed[nodeid] = (
                        f"{seen.against} has the same engine here, so it can't tell what that "
                        f"costs: {cause}"
                    )
                    continue
                said = f"suspect by its baseline ({suspect.why}), so " if suspect.why else ""
                told = f"{said}run against {seen.against}, {origin.how}"
                found[nodeid] = replace(test, findings=(told, *test.findings), is_confirmed=True)
        if unconfirmed:
            judged = session_view(replace(trial, gate=trial.gate.at(share)), self._facts)
            view = replace(view, tests=judged.tests)
        return _merged(view, found, unconfirmed, views)

    def _engine_causes(self, suspects: Sequence[Suspect]) -> dict[str, list[FitnessFinding]]:
        """Return what is built or loaded otherwise than in a suspect's newest stored session."""
        found = {
            suspect.recording.item.nodeid: stored_causes(self._facts, suspect.sessions[-1])
            for suspect in suspects
        }
        return {nodeid: causes for nodeid, causes in found.items() if causes}

    def _grouped(
        self, suspects: Sequence[Suspect]
    ) -> tuple[list[tuple[Origin, list[Suspect]]], dict[str, str]]:
        """Return the suspects by the commit to run them against, and why others have none."""
        groups: dict[str, tuple[Origin, list[Suspect]]] = {}
        unconfirmed: dict[str, str] = {}
        root = self._config.rootpath
        for suspect in suspects:
            try:
                repository = repository_of(root, "the baseline")
                if text := foreign(self._origins, repository.top, "this session"):
                    raise ArmError(text)
                origin = self._origin(suspect, repository)
            except (GitError, ArmError) as error:
                unconfirmed[suspect.recording.item.nodeid] = str(error)
                continue
            groups.setdefault(origin.revision.commit, (origin, []))[1].append(suspect)
        return list(groups.values()), unconfirmed

    def _origin(self, suspect: Suspect, repository: Repository) -> Origin:
        """Return the commit of the newest session that is as fast as they are in the middle.

        A newer one may hold the slowdown already.

        Raises:
            GitError: none of the sessions has a commit that can be run against.
        """
        state = read_provenance(self._config.rootpath, self._settings.loaded.baselines_dir)
        problem: GitError | None = None
        for stored in fast_first(suspect):
            try:
                origin = origin_of(stored, repository)
            except GitError as error:
                problem = problem or error
                continue
            if origin.revision.commit != state.commit or state.dirty:
                return origin
            problem = problem or GitError(
                f"{stored.path.name} measured this very commit: nothing but the machine differs"
            )
        raise problem or GitError("its stored sessions name no commit")

    def _confirm(
        self, origin: Origin, group: Sequence[Suspect], alpha: float, spent: float
    ) -> tuple[SessionView, Against, float]:
        """Run a group against one commit; ``spent`` of the budget is gone already.

        Returns what it says, what it was compared with, and the seconds of the budget it took.
        """
        perf, root = self._settings.loaded.config.perf, self._config.rootpath
        held = [suspect.recording for suspect in group]
        tests, is_are = count(len(held), "test"), "is" if len(held) == 1 else "are"
        self._console.line(
            f"{tests} {is_are} to be confirmed against {origin.revision}, {origin.how}"
        )
        repository = repository_of(root, "the baseline")
        before = current_against(self._config)
        place = prepare(root, repository, origin.revision, self._console.line, perf.base_install)
        try:
            against = against_commit(self._config, place, held, self._console.line)
            set_against(self._config, against)
            facts = gather_facts(self._config, self._settings, self._facts.telemetry)
            facts = replace(facts, roofline=self._facts.roofline)
            trials = Trials(self._config, self._settings, facts, self._console, self._start_seconds)
            budget = max(perf.budget - spent, 1.0)
            try:
                trial = trials.run(held, against, alpha=alpha, budget=budget)
                return session_view(trial, facts), against, trial.measurement.spent
            finally:
                if facts.telemetry is not self._facts.telemetry:
                    facts.close()
        finally:
            set_against(self._config, before)
            place.close()


def _share(alpha: float, groups: int, *, alone: bool) -> float:
    """Return what each trial that may decide gets of the one false-alarm rate.

    Which suspects are left to their stored sessions is known only after the others were
    confirmed, so their part is kept for them from the start. Only one that is ``alone``, and
    either confirmed or left to them, uses it all: either way a single trial decides.
    """
    return alpha / (groups + 1) if groups and not alone else alpha


def _why_not(test: TestReportView, against: Against) -> str:
    """Say why a trial did not compare a test."""
    nodeid = test.nodeid
    if nodeid in against.changed:
        work = against.changed[nodeid]
        return f"{against.name} measured {work.summary}: other work, so not judged as equal"
    if reason := against.absent.get(nodeid) or against.broken.get(nodeid):
        return in_short(reason)
    claim = next((verdict.claim for verdict in test.verdicts if verdict.claim), "")
    return claim or "nothing was measured"


def _merged(
    view: SessionView,
    found: Mapping[str, TestReportView],
    unconfirmed: Mapping[str, str],
    views: Sequence[SessionView],
) -> SessionView:
    """Put the confirmed tests in the place of what stored sessions said of them."""
    tests = []
    for stored in view.tests:
        why = unconfirmed.get(stored.nodeid)
        if why is not None:
            told = f"not confirmed, so stored sessions alone judge: {why}"
            tests.append(replace(stored, findings=(*stored.findings, told)))
        else:
            tests.append(found.get(stored.nodeid, stored))
    fitness = merged_sessions(one.fitness for one in (view, *views))
    return replace(
        view,
        tests=tuple(tests),
        fitness=fitness,
        busy=machine_lines(fitness),
        wall_s=view.wall_s + sum(one.wall_s for one in views),
        generation_s=view.generation_s + sum(one.generation_s for one in views),
    )


def _not_cleared(test: TestReportView, causes: Sequence[FitnessFinding]) -> str:
    """Say what a comparison of the commits could not show, because both arms had it.

    An engine that was built again without GPU code is as slow for the old commit.
    """
    if any(verdict.kind is VerdictKind.REGRESSED for verdict in test.verdicts):
        return ""
    between = {entry.name for entry in test.fitness}
    return "; ".join(cause.text for cause in causes if cause.name not in between)
