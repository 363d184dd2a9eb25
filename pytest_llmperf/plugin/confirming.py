"""Confirmation: what stored sessions make suspect is run against the commit they measured."""

from __future__ import annotations

import time
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
from pytest_llmperf.plugin.against import (
    Against,
    current_against,
    set_against,
    what_is_other,
)
from pytest_llmperf.plugin.base_arm import against_commit
from pytest_llmperf.plugin.base_commit import foreign, prepare, repository_of
from pytest_llmperf.plugin.configured import stored_causes
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.facts import SessionFacts, gather_facts
from pytest_llmperf.plugin.fitness import fit_wait
from pytest_llmperf.plugin.judging import session_view
from pytest_llmperf.plugin.options import Confirming
from pytest_llmperf.plugin.recording_there import ArmError
from pytest_llmperf.plugin.settings import Settings
from pytest_llmperf.plugin.suspects import Suspect, find_suspects
from pytest_llmperf.plugin.trial import Trial, Trials
from pytest_llmperf.plugin.unchanged import Present
from pytest_llmperf.report.fitness import machine_lines, merged_sessions
from pytest_llmperf.report.model import SessionView, TestReportView
from pytest_llmperf.report.text import in_short
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    pass

_ALONE = "not confirmed, so stored sessions alone judge"
_SAME = "it measured the same code, configuration, packages, engine and model"
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
        present: what this session measures.
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
        present: Present,
        mode: Confirming,
    ) -> None:
        self._config = config
        self._settings = settings
        self._facts = facts
        self._console = console
        self._start_seconds = start_seconds
        self._origins = origins
        self._present = present
        self._mode = mode

    def confirmed(self, trial: Trial, view: SessionView) -> SessionView:
        """Return what the session has to say, with the verdicts that were confirmed.

        ``view``: what it says by its stored sessions.
        """
        alpha = self._settings.loaded.config.perf.false_alarms
        records = self._facts.baselines.records
        suspects, unfit = find_suspects(trial, records, every=self._mode == "always")
        if self._mode == "never":
            unfit = {}
        if not suspects and not unfit:
            return view
        same, suspects, unconfirmed = self._unchanged(suspects)
        unconfirmed |= unfit
        groups: list[tuple[Origin, list[Suspect]]] = []
        if self._mode == "on request":
            unconfirmed |= {one.recording.item.nodeid: _ON_REQUEST for one in suspects}
        elif self._mode != "never":
            groups, without = self._grouped(suspects)
            unconfirmed |= without
        engines = self._engine_causes(suspects)
        alone = len({*unconfirmed, *(one.recording.item.nodeid for one in suspects)}) == 1
        share = _share(alpha, len(groups), alone=alone and not engines)
        found: dict[str, TestReportView] = {}
        views: list[SessionView] = []
        left = self._settings.loaded.config.perf.budget - trial.measurement.spent
        for origin, group in groups:
            began = self._spent()
            try:
                seen, against = self._confirm(origin, group, share, left)
            except (GitError, ArmError, BaselineError, EngineError) as error:
                # Such as a device that another session took meanwhile.
                unconfirmed |= {one.recording.item.nodeid: str(error) for one in group}
                continue
            finally:
                left -= self._spent() - began
            views.append(seen)
            by_name = {test.nodeid: test for test in seen.tests}
            for suspect in group:
                nodeid = suspect.recording.item.nodeid
                test = by_name[nodeid]
                # Other work there was measured in pairs, too, and was compared with nothing.
                if against.standing(nodeid) != "same" or not test.pairs:
                    unconfirmed[nodeid] = _why_not(suspect, test, against)
                    continue
                if cause := _not_cleared(test, engines.get(nodeid, [])):
                    unconfirmed[nodeid] = (
                        f"{seen.against} has the same engine here, so it can't tell what that "
                        f"costs: {cause}"
                    )
                    continue
                said = f"suspect by its baseline ({suspect.why}), so " if suspect.why else ""
                how = f"{said}run against {seen.against}, {origin.how}"
                found[nodeid] = replace(test, findings=(how, *test.findings), is_confirmed=True)
        if unconfirmed or same:
            gate = trial.gate.at(share, same)
            view = replace(view, tests=session_view(replace(trial, gate=gate), self._facts).tests)
        told = {nodeid: f"{_ALONE}: {why}" for nodeid, why in unconfirmed.items()}
        told |= {
            nodeid: f"nothing was run against {name}: {_SAME}" for nodeid, name in same.items()
        }
        return _merged(view, found, told, views)

    def _spent(self) -> float:
        """Return a time that stands still while the session waits for the machine to be fit."""
        return time.monotonic() - fit_wait(self._config, self._settings, self._console).seconds

    def _unchanged(
        self, suspects: Sequence[Suspect]
    ) -> tuple[dict[str, str], list[Suspect], dict[str, str]]:
        """Tell apart the suspects whose code a session of the faster half measured.

        A comparison of the commits would compare that code with itself. Returns the session
        that measured the very same by test, where there is one; the suspects that can be
        confirmed; and why others can't be, by test.
        """
        same: dict[str, str] = {}
        left: list[Suspect] = []
        unconfirmed: dict[str, str] = {}
        for suspect in suspects:
            alike = [one for one in suspect.faster_half if self._present.has_code_of(one)]
            # Asked to confirm every test, an older commit that differs will do.
            others = self._mode == "always" and not all(
                map(self._present.has_code_of, suspect.sessions)
            )
            if not alike or suspect.crept or others:
                left.append(suspect)
                continue
            nodeid = suspect.recording.item.nodeid
            differences = {one.path.name: self._present.differences(one) for one in alike}
            name = next((name for name, found in differences.items() if not found), None)
            if name is not None:
                same[nodeid] = name
            elif self._mode == "never":
                left.append(suspect)
            else:
                name, found = next(iter(differences.items()))
                unconfirmed[nodeid] = (
                    f"{name} measured the same code, so there is nothing to run it against; what "
                    f"may differ: {'; '.join(found)}"
                )
        return same, left, unconfirmed

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

        A newer one may hold the slowdown already. One with the code of this session would be
        compared with itself.

        Raises:
            GitError: none of the sessions has a commit that can be run against.
        """
        problem: GitError | None = None
        for stored in suspect.fast_first:
            try:
                origin = origin_of(stored, repository)
            except GitError as error:
                problem = problem or error
                continue
            if not self._present.is_code_of(origin.revision.commit):
                return origin
            problem = problem or GitError(
                f"{origin.revision.short}, {origin.how}, has the same code as this session"
            )
        raise problem or GitError("its stored sessions name no commit")

    def _confirm(
        self, origin: Origin, group: Sequence[Suspect], alpha: float, left: float
    ) -> tuple[SessionView, Against]:
        """Run a group against one commit, within the seconds that are ``left`` of the budget.

        Returns what it says, and what it was compared with.

        Raises:
            ArmError: the commit can't be used, or no time is left for it.
        """
        perf, root, began = (
            self._settings.loaded.config.perf,
            self._config.rootpath,
            time.monotonic(),
        )
        held = [suspect.recording for suspect in group]
        tests, is_are = count(len(held), "test"), "is" if len(held) == 1 else "are"
        if left <= 0:
            raise ArmError(f"nothing is left of perf.budget ({format_duration(perf.budget)})")
        self._console.line(
            f"{tests} {is_are} to be confirmed against {origin.revision}, {origin.how}, within the "
            f"{format_duration(round(left))} left of perf.budget: its checkout, environment and "
            "the recording there count"
        )
        repository = repository_of(root, "the baseline")
        before = current_against(self._config)
        say, install = self._console.line, perf.base_install
        place = prepare(root, repository, origin.revision, say, install, left)
        try:
            against = against_commit(self._config, place, held, say)
            set_against(self._config, against)
            facts = gather_facts(self._config, self._settings, self._facts.telemetry)
            facts = replace(facts, roofline=self._facts.roofline)
            trials = Trials(self._config, self._settings, facts, self._console, self._start_seconds)
            prepared = time.monotonic() - began
            if prepared >= left:
                raise ArmError(
                    f"checkout, environment and recording took {format_duration(prepared)}, and "
                    f"that was all that was left of perf.budget ({format_duration(perf.budget)})"
                )
            try:
                trial = trials.run(held, against, alpha=alpha, budget=left - prepared)
                view = session_view(trial, facts)
                return replace(view, wall_s=view.wall_s + prepared), against
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


def _why_not(suspect: Suspect, test: TestReportView, against: Against) -> str:
    """Say why a trial did not compare a test."""
    nodeid = test.nodeid
    if other := what_is_other(against, suspect.recording):
        return other
    if reason := against.absent.get(nodeid) or against.broken.get(nodeid):
        return in_short(reason)
    claim = next((verdict.claim for verdict in test.verdicts if verdict.claim), "")
    return claim or "nothing was measured"


def _merged(
    view: SessionView,
    found: Mapping[str, TestReportView],
    told: Mapping[str, str],
    views: Sequence[SessionView],
) -> SessionView:
    """Put the confirmed tests in the place of what stored sessions said of them.

    ``told``: of the others, why they were not confirmed.
    """
    tests = []
    for stored in view.tests:
        why = told.get(stored.nodeid)
        if why is not None:
            tests.append(replace(stored, findings=(*stored.findings, why)))
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
