"""The search of ``llmperf tune`` in the pytest session that recorded the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.plugin.options import usage_error

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.tune.request import TuneRequest
    from pytest_llmperf.tune.run import TuneRun


class TuningError(Exception):
    """A search that can't start; str() is the complete message."""


class TuningRun:
    """One search, whose result goes to the command that started this session."""

    def __init__(self, run: TuneRun, request: TuneRequest) -> None:
        self._run = run
        self._request = request

    def run(self, tests: Sequence[RecordedTest], engine: LlmEngine) -> None:
        """Search, and write the result.

        Raises:
            TuningError: the search can't start.
            SESSION_ERRORS: nothing could be measured.
        """
        from pytest_llmperf.tune.errors import TuneError
        from pytest_llmperf.tune.request import write_result
        from pytest_llmperf.tune.storage import StudyError

        try:
            result = self._run.run(tests, engine)
        except (TuneError, StudyError) as error:
            raise TuningError(str(error)) from None
        if self._request.outcome is not None:
            write_result(Path(self._request.outcome), result)


def tuning_run(context: SessionContext, path: Path) -> TuningRun:
    """Read the request of ``llmperf tune``, and check it before anything is loaded.

    Raises:
        pytest.UsageError: the search can't start.
    """
    from pytest_llmperf.tune.errors import TuneError
    from pytest_llmperf.tune.request import TuneRequest, TuneRequestError
    from pytest_llmperf.tune.run import TuneRun
    from pytest_llmperf.tune.storage import StudyError

    try:
        request = TuneRequest.read(path)
        run = TuneRun(context, request)
        run.check()
    except TuneRequestError as error:
        raise usage_error(f"--llmperf-tune {error}") from None
    except (TuneError, StudyError) as error:
        raise usage_error(str(error)) from None
    return TuningRun(run, request)
