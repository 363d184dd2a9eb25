"""The search of ``llmperf tune`` in the pytest session that recorded the tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.plugin.options import usage_error

if TYPE_CHECKING:
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.tune.run import TuneRun


def tuning_run(context: SessionContext, path: Path) -> TuneRun:
    """Read the request of ``llmperf tune``, and check it before anything is loaded.

    Raises:
        pytest.UsageError: the search can't start.
    """
    from pytest_llmperf.tune.errors import TuneError
    from pytest_llmperf.tune.request import TuneRequest, TuneRequestError
    from pytest_llmperf.tune.run import TuneRun

    try:
        request = TuneRequest.read(path)
        run = TuneRun(context, request)
        run.check()
    except TuneRequestError as error:
        raise usage_error(f"--llmperf-tune {error}") from None
    except TuneError as error:
        raise usage_error(str(error)) from None
    return run
