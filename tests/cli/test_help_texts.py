"""``--help`` of every command: it fits the terminal, and keeps its lists and examples."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from pytest_llmperf.cli import build_parser, main


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from parsers(subparser)


@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    long = [
        line
        for parser in parsers(build_parser())
        for line in parser.format_help().splitlines()
        # Choices and commands can't be broken.
        if len(line) > columns
        and not ("{" in line or line.lstrip("usage: ").startswith("llmperf "))
    ]
    assert long == []


def test_lists_and_examples_keep_their_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "64")
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    text = capsys.readouterr().out
    assert (
        "  a commit    a branch, tag, hash, HEAD~1 or\n"
        "              merge-base:origin/main; its baselines are read\n"
        "              out of git. rev:NAME, if a path has that name as\n"
        "              well\n"
        "  a folder    of baselines"
    ) in text
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    text = capsys.readouterr().out
    assert "examples:\n  llmperf import before-*.json --dir before\n  llmperf" in text
    assert "\nexit status:\n  0   imported\n" in text


def test_optional_tests_are_not_called_required(capsys: pytest.CaptureFixture[str]) -> None:
    for command, missing in (("bisect", "GOOD, BAD"), ("baseline accept", "--reason")):
        with pytest.raises(SystemExit):
            main(command.split())
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith((f"required: {missing}", f", {missing}")), error
        assert "TEST" not in error
