"""``llmperf tune``: find the settings that meet the targets, and prove their gain."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.arguments import duration, whole_number
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_config_options, add_pytest_arguments
from pytest_llmperf.cli.output import OutputError, ending_on_sigterm, fail, note
from pytest_llmperf.cli.pytest_run import run_perf_tests

if TYPE_CHECKING:
    from pytest_llmperf.cli.tune_result import Today
    from pytest_llmperf.tune.request import TuneRequest
    from pytest_llmperf.tune.result import TuneResult

_DESCRIPTION = """\
Searches for settings with which a workload runs faster on this machine, and proves the
gain.

The workload is the perf tests of the current folder, or --prompt. Candidates race in
interleaved pairs against the best settings so far. The winner is then compared with
today's configuration in fresh pairs; only a gain that these prove is reported. The section
tune of config.yaml limits what is tried. After an interruption, the same command continues.
--apply writes proven settings into config.yaml; it shows the diff and keeps the old file.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "the search ended, with or without an improvement",
    1: "a file can't be written",
    2: "the search can't start, or nothing can be measured",
    130: "interrupted; the same command continues",
}
_EPILOG = f"""\
Arguments after -- go to pytest: llmperf tune -- tests/perf/test_chat.py -k short

{exit_status_text(EXIT_STATUS)}
"""
_NOT_MEASURED = 2
_INTERRUPTED = 130


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "tune",
        help="find faster settings for this machine, and prove their gain",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="FILE|TEXT",
        help="use this prompt instead of the tests (repeatable)",
    )
    parser.add_argument(
        "--max-tokens", type=whole_number(), metavar="N", help="length of the answer to each prompt"
    )
    add_config_options(parser, "tune.budget=5m")
    parser.add_argument(
        "--budget", type=duration, metavar="TIME", help="time limit (default: tune.budget)"
    )
    parser.add_argument(
        "--phase",
        type=int,
        choices=(1, 2, 3),
        action="append",
        help="run only this phase: 1 settings, 2 models, 3 values near the best ones "
        "(repeatable; default: all)",
    )
    parser.add_argument("--study", metavar="NAME", help="name of the study to continue")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database that keeps the study, such as postgresql://user@host/database "
        "(default: a file in the cache folder)",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="write the settings into config.yaml if a gain is proven; at once if the same "
        "search proved it before",
    )
    parser.add_argument(
        "--summary",
        nargs="?",
        const="",
        metavar="FILE",
        help="also write a Markdown document (default: BENCHMARK_RESULTS_SUMMARY.md)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the result to this file as JSON"
    )
    add_pytest_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, print the result, and return the exit status."""
    from pytest_llmperf.cli.tune_result import check_files
    from pytest_llmperf.config.edit import EditError
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.session.run import SESSION_ERRORS
    from pytest_llmperf.tune.errors import TuneError

    try:
        check_files(arguments)
        return _tune(arguments)
    except (EditError, OutputError) as error:
        return fail(error, 1)
    except (ConfigError, TuneError, OSError, *SESSION_ERRORS) as error:
        return fail(error, _NOT_MEASURED)
    except KeyboardInterrupt:
        return fail("interrupted; run the same command to continue", _INTERRUPTED)


def _tune(arguments: argparse.Namespace) -> int:
    """Search, unless the result is cached, and report."""
    from pytest_llmperf.cli.tune_result import report
    from pytest_llmperf.tune.errors import TuneError

    if arguments.max_tokens is not None and not arguments.prompt:
        raise TuneError("--max-tokens is for --prompt; a test names its own number")
    prompts = [_prompt(text) for text in arguments.prompt]
    today = _today(arguments, prompts)
    if arguments.apply and today is not None and (cached := today.result_cache.load()) is not None:
        note(f"the result of the search of {cached.date}; nothing is measured again")
        report(cached.result, arguments, today, cached.date)
        return 0
    request = _request(arguments)
    if today is not None and prompts:
        with ending_on_sigterm():
            result = _tune_prompts(arguments, request, today, prompts)
    else:
        tested, status = _tune_tests(arguments, request, today)
        if tested is None:
            return status or _NOT_MEASURED
        result = tested
    if today is not None:
        today.result_cache.save(result)
    report(result, arguments, today, time.strftime("%Y-%m-%d"))
    return _INTERRUPTED if result.interrupted else 0


def _today(arguments: argparse.Namespace, prompts: Sequence[str]) -> Today | None:
    """Return today's configuration; None if it is invalid here: pytest may find a valid one.

    Raises:
        ConfigError: the configuration is invalid, and needed here.
    """
    from pytest_llmperf.cli.tune_result import read_today
    from pytest_llmperf.config.errors import ConfigError

    try:
        return read_today(arguments, prompts)
    except ConfigError:
        if arguments.apply or prompts:
            raise
        return None


def _request(arguments: argparse.Namespace) -> TuneRequest:
    from pytest_llmperf.tune.request import TuneRequest

    request = TuneRequest(budget=arguments.budget, study=arguments.study, storage=arguments.storage)
    phases = tuple(sorted({*(arguments.phase or ())}))
    return replace(request, phases=phases) if phases else request


def _tune_prompts(
    arguments: argparse.Namespace, request: TuneRequest, today: Today, prompts: Sequence[str]
) -> TuneResult:
    """Record a workload of the given prompts, and search."""
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.context import LineConsole, SessionContext
    from pytest_llmperf.session.machine_watch import FitWait
    from pytest_llmperf.session.recording import record_body
    from pytest_llmperf.session.setup import setup_words
    from pytest_llmperf.text import DOT
    from pytest_llmperf.tune.run import TuneRun

    setup = today.setup
    note(DOT.join(setup_words(setup.project, setup.loaded)))
    options = {} if arguments.max_tokens is None else {"max_tokens": arguments.max_tokens}
    context = SessionContext(
        setup, FitWait(setup.perf.wait_fit or 0.0, note), console=LineConsole(note)
    )
    tuning = TuneRun(context, request)
    tuning.check()

    def body(engine: LlmEngine) -> None:
        for prompt in prompts:
            engine.generate(prompt, **options)

    test, engine = record_body(setup, "prompt", body, note)
    return tuning.run([test], engine)


def _prompt(given: str) -> str:
    """Return the text of a prompt: the content of a file if one has that name."""
    try:
        path = Path(given)
        return path.read_text(encoding="utf-8") if path.is_file() else given
    except (OSError, ValueError):
        return given  # too long for a file name


def _tune_tests(
    arguments: argparse.Namespace, request: TuneRequest, today: Today | None
) -> tuple[TuneResult | None, int]:
    """Run pytest, which records the tests and searches; return the result and pytest's status."""
    from pytest_llmperf.tune.request import read_result

    config = arguments.config
    if config is None and arguments.apply and today is not None and today.file.exists():
        config = today.file
    with tempfile.TemporaryDirectory(prefix="llmperf-") as folder:
        path, outcome = Path(folder) / "request.json", Path(folder) / "result.json"
        replace(request, outcome=str(outcome)).write(path)
        options = [f"--llmperf-tune={path}", *(f"--llmperf-set={arg}" for arg in arguments.set)]
        if config is not None:
            options.append(f"--llmperf-config={config.absolute()}")
        status = run_perf_tests([*options, *arguments.pytest_args])
        return read_result(outcome), status
