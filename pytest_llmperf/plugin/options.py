"""The command line options, a frozen object with their values, and errors about user input."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pytest

from pytest_llmperf.arguments import duration

if TYPE_CHECKING:
    from pytest_llmperf.session.context import Confirming

#: When tests are compared with the commit of their baseline before they are judged.
Confirm = Literal["auto", "never", "always"]


@dataclass(frozen=True)
class Options:
    """The plugin's command line options."""

    config_file: Path | None
    overrides: tuple[str, ...]
    record: bool
    accept: str | None
    require_baseline: bool
    allow_unmeasured: bool
    exit_codes: bool
    json_path: Path | None
    html_path: Path | None
    html_samples: bool
    strict: bool
    against_config: Path | None
    against: str | None
    confirm: Confirm | None
    baselines_from: str | None
    calibrate: Path | None
    tune: Path | None
    wait_fit: float | None

    @property
    def for_command(self) -> bool:
        """Whether a command (calibrate, tune) measures the tests, without baselines."""
        return self.calibrate is not None or self.tune is not None

    @property
    def compares_sides(self) -> bool:
        """Whether every test is measured on two sides, in pairs."""
        given = (self.against, self.against_config, self.calibrate, self.tune)
        return any(value is not None for value in given)

    @property
    def confirming(self) -> Confirming:
        """When tests are confirmed; a session that records does so only on request."""
        return self.confirm or ("on request" if self.record else "auto")

    @property
    def needing_measurement(self) -> list[str]:
        """The given options that do nothing unless something is measured."""
        given = {
            "--llmperf-record": self.record and self.accept is None,
            "--llmperf-accept": self.accept is not None,
            "--llmperf-against": self.against is not None,
            "--llmperf-against-config": self.against_config is not None,
            "--llmperf-require-baseline": self.require_baseline,
            "--llmperf-json": self.json_path is not None,
            "--llmperf-html": self.html_path is not None,
        }
        return [name for name, is_given in given.items() if is_given]

    def output_files(self, config: pytest.Config) -> tuple[Path, ...]:
        """Return the files that this session writes besides baselines."""
        xml = getattr(config.option, "xmlpath", None)
        junit = config.invocation_params.dir / xml if xml else None
        return (*self.reports.values(), *([junit] if junit is not None else []))

    @property
    def reports(self) -> dict[str, Path]:
        """The report files that were asked for, by option."""
        given = {"--llmperf-json": self.json_path, "--llmperf-html": self.html_path}
        return {option: path for option, path in given.items() if path is not None}

    @classmethod
    def of(cls, config: pytest.Config) -> Options:
        """Read the options of a session; relative paths start at the invocation folder."""
        folder = config.invocation_params.dir
        accept = config.getoption("llmperf_accept")
        file, report = config.getoption("llmperf_config"), config.getoption("llmperf_json")
        page = config.getoption("llmperf_html")
        other, calibrate, tune = (
            config.getoption("llmperf_against_config"),
            config.getoption("llmperf_calibrate"),
            config.getoption("llmperf_tune"),
        )
        return cls(
            config_file=folder / file if file else None,
            overrides=tuple(config.getoption("llmperf_set") or ()),
            record=config.getoption("llmperf_record") or accept is not None,
            accept=accept,
            require_baseline=config.getoption("llmperf_require_baseline"),
            allow_unmeasured=config.getoption("llmperf_allow_unmeasured"),
            exit_codes=config.getoption("llmperf_exit_codes"),
            json_path=folder / report if report else None,
            html_path=folder / page if page else None,
            html_samples=config.getoption("llmperf_html_samples"),
            strict=config.getoption("llmperf_strict"),
            against_config=folder / other if other else None,
            against=config.getoption("llmperf_against"),
            confirm=config.getoption("llmperf_confirm"),
            baselines_from=config.getoption("llmperf_baselines_from"),
            calibrate=folder / calibrate if calibrate else None,
            tune=folder / tune if tune else None,
            wait_fit=config.getoption("llmperf_wait_fit"),
        )


def add_options(parser: pytest.Parser) -> None:
    """Add the plugin's options to pytest's command line."""
    group = parser.getgroup("llmperf", "LLM inference performance")
    group.addoption(
        "--llmperf-config",
        metavar="PATH",
        help="configuration file (default: config.yaml beside pytest's settings file, else in the "
        "root folder, else in the current folder)",
    )
    group.addoption(
        "--llmperf-set",
        metavar="KEY=VALUE",
        action="append",
        help="override one setting, for example llm.n_batch=512 (repeatable)",
    )
    group.addoption(
        "--llmperf-record",
        action="store_true",
        help="store this session's samples as a baseline, whatever the verdicts",
    )
    group.addoption(
        "--llmperf-accept",
        metavar="REASON",
        help="record this session, and compare with its level from now on; the reason is stored",
    )
    group.addoption(
        "--llmperf-require-baseline",
        action="store_true",
        help="fail perf tests that have no baseline",
    )
    group.addoption(
        "--llmperf-allow-unmeasured",
        action="store_true",
        help="run the bodies of perf tests under pytest-xdist, where nothing can be measured; "
        "without this option such a session is refused",
    )
    group.addoption(
        "--llmperf-against-config",
        metavar="PATH",
        help="compare with this configuration instead of stored baselines; both run in this "
        "session",
    )
    group.addoption(
        "--llmperf-against",
        metavar="REV",
        help="compare with this commit instead of stored baselines; both run in this session "
        "(a branch, tag or hash, HEAD~1, merge-base:origin/main)",
    )
    group.addoption(
        "--llmperf-confirm",
        choices=get_args(Confirm),
        help="which tests run against the commit of their baseline before they are judged: those "
        "that look slower (auto), every test (always), or none (never). Default: auto; never with "
        "--llmperf-record and --llmperf-accept",
    )
    group.addoption(
        "--llmperf-baselines-from",
        metavar="REV",
        help="take the baselines from this commit, not from the work tree (default in a pull "
        "request's CI: its merge base)",
    )
    group.addoption(
        "--llmperf-wait-fit",
        metavar="DURATION",
        type=duration,
        help="wait up to this long in total for a busy or hot machine to recover, for example 60s "
        "(default: perf.wait_fit)",
    )
    # Used internally by a comparison with another commit, in that commit's tree.
    group.addoption("--llmperf-record-for", metavar="FILE", help=argparse.SUPPRESS)
    group.addoption(
        "--llmperf-strict",
        action="store_true",
        help="fail inconclusive tests, instead of passing them with a warning",
    )
    # Used internally: a command's own session does without the workers that addopts asks for.
    group.addoption("--llmperf-one-process", action="store_true", help=argparse.SUPPRESS)
    # Used internally by `llmperf calibrate`: a file that says what to run.
    group.addoption("--llmperf-calibrate", metavar="FILE", help=argparse.SUPPRESS)
    # Used internally by `llmperf tune`, in the same way.
    group.addoption("--llmperf-tune", metavar="FILE", help=argparse.SUPPRESS)
    group.addoption(
        "--llmperf-roofline",
        action="store_true",
        help="show how close every test's decode comes to the limit of this machine's memory "
        "bandwidth",
    )
    group.addoption(
        "--llmperf-exit-codes",
        action="store_true",
        help="exit with 1 for regressed or missed, 10 for invalid, 11 for inconclusive",
    )
    group.addoption(
        "--llmperf-rate",
        metavar="RATE",
        help="send every load at this rate, such as 4/s, instead of its own; a load with another "
        "rate is a different workload, so no baseline is compared",
    )
    group.addoption(
        "--llmperf-json", metavar="PATH", help="write verdicts and raw samples to this file"
    )
    group.addoption(
        "--llmperf-html",
        metavar="PATH",
        help="write a page for a browser to this file: verdicts, reasons and charts",
    )
    group.addoption(
        "--llmperf-html-samples",
        action="store_true",
        help="keep every raw sample in that page, not only their distribution",
    )


def usage_error(text: str) -> pytest.UsageError:
    """Return the error with this message; control characters are escaped."""
    from pytest_llmperf.text import printable_lines

    return pytest.UsageError(f"llmperf: {printable_lines(text)}")
