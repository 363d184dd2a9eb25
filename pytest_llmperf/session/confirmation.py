"""Confirmation: runs suspects against the commit that their stored sessions measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.rerun_commit import RerunCommit, find_rerun_commit
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import count
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.session.base_side import BaseSide, SideError
from pytest_llmperf.session.causes import stored_causes
from pytest_llmperf.session.commit_checkout import check_out_commit, foreign_module, repository_of
from pytest_llmperf.session.commit_side import commit_side
from pytest_llmperf.session.suspects import Suspect, find_suspects
from pytest_llmperf.session.trial import Trial, Trials
from pytest_llmperf.text import in_short
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.measured_code import MeasuredCode

_ALONE = "not confirmed, so judged by stored sessions alone"
_SAME = "it measured the same code, configuration, packages, engine and model"


@dataclass
class SuspectConfirmation:
    """Results of running suspects against the commits of their baselines.

    Attributes:
        trials: the trials that were run.
        confirmed: the trial that decides on a test, by node id.
        remarks: the reason for that trial, or why there was none, by node id.
        rejudged: the session's own trial, judged again with the share of the false-alarm rate
            that is left for unconfirmed tests; None if its verdicts stand.
        prepared_seconds: how long checkouts, environments and recordings took.
    """

    trials: list[Trial] = field(default_factory=list)
    confirmed: dict[str, Trial] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    rejudged: Trial | None = None
    prepared_seconds: float = 0.0


class Confirmer:
    """Runs suspects against the commits of their baselines.

    Args:
        context: the session's context.
        trials: runs the session's trials.
        trial: the session's own trial, judged by stored sessions.
        origins: where this session's own modules were imported from.
        code: the code this session measures.
    """

    def __init__(
        self,
        context: SessionContext,
        trials: Trials,
        trial: Trial,
        origins: Mapping[str, str],
        code: MeasuredCode,
    ) -> None:
        self._context = context
        self._trials = trials
        self._trial = trial
        self._facts = trial.facts
        self._origins = origins
        self._code = code
        self._mode = context.confirming
        self._budget = context.setup.perf.budget
        self._left = self._budget - trial.measurement.spent
        self._found = SuspectConfirmation()
        self._unconfirmed: dict[str, str] = {}

    def run(self) -> SuspectConfirmation:
        """Confirm the suspects, as far as requested and within the budget."""
        every, outcome = self._mode == "always", self._found
        suspects, unfit = find_suspects(self._trial, include_passing=every)
        if self._mode == "never":
            unfit = {}
        if not suspects and not unfit:
            return outcome
        same, suspects = self._unchanged(suspects)
        self._unconfirmed |= unfit
        groups: list[tuple[RerunCommit, list[Suspect]]] = []
        if self._mode == "on request":
            how = self._context.request.how_to_confirm
            why = f"a recording session confirms only on request: {how}"
            self._unconfirmed |= {suspect.test.nodeid: why for suspect in suspects}
        elif self._mode != "never":
            groups = self._grouped(suspects)
        engines = self._engine_causes(suspects)
        alone = len({*self._unconfirmed, *(suspect.test.nodeid for suspect in suspects)}) == 1
        alpha = self._context.setup.perf.false_alarms
        share = _share(alpha, len(groups), alone=alone and not engines)
        for origin, group in groups:
            self._run_group(origin, group, share, engines)
        if self._unconfirmed or same:
            outcome.rejudged = replace(self._trial, gate=self._trial.gate.with_rate(share, same))
        outcome.remarks |= {test: f"{_ALONE}: {why}" for test, why in self._unconfirmed.items()}
        outcome.remarks |= {
            test: f"nothing was run against {name}: {_SAME}" for test, name in same.items()
        }
        return outcome

    def _run_group(
        self,
        origin: RerunCommit,
        group: Sequence[Suspect],
        share: float,
        engines: Mapping[str, Sequence[FitnessFinding]],
    ) -> None:
        """Run a group of suspects against one commit, and keep the trial of those it decides."""
        began = self._spent()
        try:
            trial = self._confirm(origin, group, share)
        except (GitError, SideError, BaselineError, EngineError, OSError) as error:
            # For example, another session took the device meanwhile.
            self._unconfirmed |= {failed.test.nodeid: str(error) for failed in group}
            return
        finally:
            self._left -= self._spent() - began
        self._found.trials.append(trial)
        base = trial.base
        assert base is not None
        for suspect in group:
            nodeid = suspect.test.nodeid
            verdicts = [check.verdict for check in trial.checks[nodeid] if check.verdict]
            pairs = trial.measurement.tests[nodeid].pairs
            # A changed workload was measured in pairs, too, but not compared.
            if base.relation(nodeid) != "same" or not pairs:
                self._unconfirmed[nodeid] = _why_not(suspect, verdicts, base)
            elif cause := _not_cleared(trial, nodeid, engines.get(nodeid, [])):
                self._unconfirmed[nodeid] = (
                    f"{base.name} runs with the same engine, so comparing with it can't show "
                    f"the effect of: {cause}"
                )
            else:
                reason = f"suspect by its baseline ({suspect.why}), so " if suspect.why else ""
                self._found.remarks[nodeid] = f"{reason}run against {base.name}, {origin.how}"
                self._found.confirmed[nodeid] = trial

    def _spent(self) -> float:
        """Return seconds on a clock that stops while the session waits for a busy machine."""
        return time.monotonic() - self._context.wait.seconds

    def _unchanged(self, suspects: Sequence[Suspect]) -> tuple[dict[str, str], list[Suspect]]:
        """Separate the suspects whose code a stored session of the faster half has measured.

        A comparison of the commits would compare that code with itself. Returns, by node id, the
        name of a stored session that measured exactly the same as this one; and the suspects
        that remain.
        """
        same: dict[str, str] = {}
        remaining: list[Suspect] = []
        for suspect in suspects:
            alike = [stored for stored in suspect.faster_half if self._code.has_code_of(stored)]
            # If every test is to be confirmed, an older commit that differs is enough.
            others = self._mode == "always" and not all(
                map(self._code.has_code_of, suspect.sessions)
            )
            if not alike or suspect.crept or others:
                remaining.append(suspect)
                continue
            nodeid = suspect.test.nodeid
            differences = {
                stored.path.name: self._code.differences(stored, suspect.test) for stored in alike
            }
            name = next((name for name, lines in differences.items() if not lines), None)
            if name is not None:
                same[nodeid] = name
            elif self._mode == "never":
                remaining.append(suspect)
            else:
                name, lines = next(iter(differences.items()))
                self._unconfirmed[nodeid] = (
                    f"{name} measured the same code, so there is nothing to run it against; what "
                    f"may differ: {'; '.join(lines)}"
                )
        return same, remaining

    def _engine_causes(self, suspects: Sequence[Suspect]) -> dict[str, list[FitnessFinding]]:
        """Return how each suspect's engine and settings differ from its newest stored session."""
        by_test = {
            suspect.test.nodeid: stored_causes(self._facts, suspect.test, suspect.sessions[-1])
            for suspect in suspects
        }
        return {nodeid: causes for nodeid, causes in by_test.items() if causes}

    def _grouped(self, suspects: Sequence[Suspect]) -> list[tuple[RerunCommit, list[Suspect]]]:
        """Group the suspects by the commit to run them against; note why the others have none."""
        groups: dict[str, tuple[RerunCommit, list[Suspect]]] = {}
        root = self._context.root
        for suspect in suspects:
            try:
                repository = repository_of(root, "the baseline")
                if text := foreign_module(self._origins, repository.top, "this session"):
                    raise SideError(text)
                origin = self._origin(suspect, repository)
            except (GitError, SideError) as error:
                self._unconfirmed[suspect.test.nodeid] = str(error)
                continue
            groups.setdefault(origin.revision.commit, (origin, []))[1].append(suspect)
        return list(groups.values())

    def _origin(self, suspect: Suspect, repository: Repository) -> RerunCommit:
        """Return the commit of the newest session that is at least as fast as the median.

        A newer session may already contain the slowdown. If none of the fast sessions has a
        usable commit with other code than this session's, the slower ones are tried.

        Raises:
            GitError: none of the sessions has a commit that can be run against.
        """
        problem: GitError | None = None
        for stored in suspect.fast_first:
            try:
                origin = find_rerun_commit(stored, repository)
            except GitError as error:
                problem = problem or error
                continue
            if not self._code.is_code_of(origin.revision.commit):
                return origin
            problem = problem or GitError(
                f"{origin.revision.short}, {origin.how}, has the same code as this session"
            )
        raise problem or GitError("its stored sessions name no commit")

    def _confirm(self, origin: RerunCommit, group: Sequence[Suspect], alpha: float) -> Trial:
        """Run a group of suspects against one commit, within the remaining budget.

        Raises:
            SideError: the commit can't be used, or no time is left for it.
        """
        context, began = self._context, time.monotonic()
        tests = [suspect.test for suspect in group]
        if self._left <= 0:
            raise SideError(f"perf.budget is used up ({format_duration(self._budget)})")
        context.console.line(
            f"confirming {count(len(tests), 'test')} against {origin.revision}, {origin.how}, "
            f"within the {format_duration(round(self._left))} left of perf.budget, including "
            "checkout, environment and recording"
        )
        checkout = check_out_commit(
            context.root,
            repository_of(context.root, "the baseline"),
            origin.revision,
            context.console.line,
            context.setup.perf.base_install,
            self._left,
            context.import_roots,
        )
        try:
            base = commit_side(context, checkout, tests, self._facts.info)
            prepared = time.monotonic() - began
            if prepared >= self._left:
                raise SideError(
                    f"checkout, environment and recording took {format_duration(prepared)}; "
                    f"perf.budget is used up ({format_duration(self._budget)})"
                )
            budget = self._left - prepared
            trial = self._trials.run(tests, base, alpha=alpha, budget=budget)
            self._found.prepared_seconds += prepared
            return trial
        finally:
            checkout.close()


def _share(alpha: float, groups: int, *, alone: bool) -> float:
    """Return the share of the session's false-alarm rate for each trial that may decide.

    One share is reserved for the suspects that stored sessions will judge, because these are
    known only after the others were confirmed. ``alone``: there is a single suspect, which uses
    the whole rate, because a single trial decides on it, confirmed or not.
    """
    return alpha / (groups + 1) if groups and not alone else alpha


def _why_not(suspect: Suspect, verdicts: Sequence[Verdict], base: BaseSide) -> str:
    """Return why a trial did not compare a test."""
    nodeid = suspect.test.nodeid
    if other := base.workload_difference(suspect.test):
        return other
    if reason := base.absent.get(nodeid) or base.broken.get(nodeid):
        return in_short(reason)
    claim = next((verdict.claim for verdict in verdicts if verdict.claim), "")
    return claim or "nothing was measured"


def _not_cleared(trial: Trial, nodeid: str, causes: Sequence[FitnessFinding]) -> str:
    """Return the causes that a comparison of the commits can't show, because both sides share them.

    For example, an engine rebuilt without GPU code is as slow for the old commit.
    """
    kinds = {check.verdict.kind for check in trial.checks[nodeid] if check.verdict}
    if VerdictKind.REGRESSED in kinds:
        return ""
    between = {entry.name for entry in trial.fitness[nodeid]}
    return "; ".join(cause.text for cause in causes if cause.name not in between)
