"""Commands name what their command line lacks: subcommands, choices, arguments."""

from __future__ import annotations

import pytest

from pytest_llmperf.cli import COMMANDS, main


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what the command prints about arguments that it refuses."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        ((), tuple(COMMANDS)),
        (("baseline",), ("show", "accept", "anchor", "prune")),
        (("ci",), ("init",)),
    ],
)
def test_a_command_without_its_subcommand_lists_them(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], listed: tuple[str, ...]
) -> None:
    lines = [line.split() for line in refused(capsys, *words).splitlines()]
    assert {first for first, *_ in filter(None, lines)} >= set(listed)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("ci", "init"), "github|gitlab"),
        (("export",), "llama-server|ollama|python"),
        (("compare", "main"), "B"),
    ],
)
def test_what_is_missing_is_named_as_in_the_usage(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], missing: str
) -> None:
    text = refused(capsys, *words)
    assert text.endswith(f"error: the following arguments are required: {missing}\n")
    usage = text.partition("error:")[0]
    assert all(name in usage for name in missing.split(", "))
