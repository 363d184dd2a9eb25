"""Measures the commits of a bisect search by starting pytest in each commit's own checkout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.bisect.session import BisectReport, BisectSession
from pytest_llmperf.process_groups import end_group, run_to_log, signal_group, wait_until_ended
from pytest_llmperf.repository.revisions import Revision
from pytest_llmperf.stored_json import read

if TYPE_CHECKING:
    from pytest_llmperf.bisect.drive import Question
    from pytest_llmperf.bisect.evidence import BisectEvidence
    from pytest_llmperf.bisect.project import BisectProject
    from pytest_llmperf.session.commit_checkout import CommitCheckout

#: Seconds that a session may take to end its engine after Ctrl-C.
_SECONDS_TO_END = 15.0
_TAIL = 15


class PytestSessions:
    """Measures each commit with one pytest session; the ``Oracle`` of a search.

    Args:
        project: the project whose tests are run.
        evidence: where reports and output are stored.
        say: prints a line before anything slow other than measuring.
    """

    def __init__(
        self, project: BisectProject, evidence: BisectEvidence, say: Callable[[str], None]
    ) -> None:
        self._project = project
        self._evidence = evidence
        self._say = say

    def __call__(self, question: Question) -> BisectSession:
        """Measure one commit against another.

        Raises:
            GitError: the commit can't be checked out.
            OSError: the session can't be started, or its output can't be stored.
        """
        started = time.monotonic()
        session = self._measure(question)
        return replace(session, seconds=time.monotonic() - started)

    def _measure(self, question: Question) -> BisectSession:
        from pytest_llmperf.plugin.settings import given_roots
        from pytest_llmperf.session.base_side import SideError
        from pytest_llmperf.session.commit_checkout import check_out_commit

        project, commit = self._project, question.commit
        session = BisectSession(commit, question.against, fresh=question.fresh)
        revision = Revision(commit, commit, project.repository.subject(commit))
        install = project.perf.base_install
        try:
            checkout = check_out_commit(
                project.root,
                project.repository,
                revision,
                self._say,
                install,
                import_roots=given_roots(),
            )
        except SideError as error:
            return replace(session, problem=str(error))
        try:
            cwd = checkout.files.top / project.cwd.relative_to(project.repository.top)
            if not cwd.is_dir():
                return replace(session, problem=f"there is no folder {cwd.name} in this commit")
            return self._run(question, session, checkout, cwd)
        finally:
            checkout.close()

    def _run(
        self, question: Question, asked: BisectSession, checkout: CommitCheckout, cwd: Path
    ) -> BisectSession:
        from pytest_llmperf.plugin.record_elsewhere import ROOTDIR, adopt_command, tree_environment

        stem = self._evidence.stem(question.commit, question.against, question.fresh)
        report, log = Path(f"{stem}.report.json"), Path(f"{stem}.log")
        report.unlink(missing_ok=True)
        isolated = question.fresh or self._evidence.restarted
        command = [
            *adopt_command(checkout.environment, checkout.roots),
            *("-m", "perf", "--color=no", "--llmperf-one-process", ROOTDIR),
            *self._project.overrides(),
            *self._project.arguments,
            # After the user's arguments, so that they can't override it.
            *(["--llmperf-set=perf.accumulate=false"] if isolated else []),
            *(f"--llmperf-against={question.against}", f"--llmperf-json={report}"),
            *self._tests(question, checkout),
        ]
        environ = {**tree_environment(checkout.tree()), **self._project.environment()}
        status = run_to_log(command, cwd, environ, log, self._end)
        session = replace(asked, log=str(log))
        try:
            data = read(BisectReport, json.loads(report.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return replace(session, problem=_no_report(status, log))
        if not data.findings:
            problem = f"no test was judged; {log} says why"
            return replace(session, problem=problem, report=str(report))
        machine = data.session.machine
        return replace(session, findings=data.findings, machine=machine, report=str(report))

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End a session like Ctrl-C, so that it ends its engine; then kill what is left."""
        try:
            with suppress(OSError):  # the output is closed
                self._say("ending the session ...")
            signal_group(process, signal.SIGINT)
            wait_until_ended(process, _SECONDS_TO_END)
        except KeyboardInterrupt:
            pass
        finally:
            end_group(process)

    def _tests(self, question: Question, checkout: CommitCheckout) -> list[str]:
        """Return the tests for pytest to run, as paths in the commit's checkout."""
        if question.tests is not None:
            return [f"{checkout.project}{os.sep}{test}" for test in question.tests]
        top = self._project.repository.top
        tests = []
        for test in self._project.tests:
            path, separator, rest = test.partition("::")
            absolute = Path(path)
            if absolute.is_absolute() and absolute.resolve().is_relative_to(top):
                path = str(checkout.files.top / absolute.resolve().relative_to(top))
            tests.append(f"{path}{separator}{rest}")
        return tests


def _no_report(status: int, log: Path) -> str:
    """Return a message on how a session without verdicts ended."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    tail = [line for line in lines if line.strip()][-_TAIL:]
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    why = f": {' '.join(errors[0].split())}" if errors else ""
    return "\n".join(
        [
            f"the pytest session of this commit ended with status {status} and no verdicts{why}",
            f"its output ({log}) ends:",
            *(f"  | {line}" for line in tail),
        ]
    )
