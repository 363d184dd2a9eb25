"""Every block of the documentation is checked and run, or a comment before it says why not."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pytest
import yaml
from doc_blocks import ROOT, Block, blocks, commands, pages
from docs_reference import _Options, build_parser

from pytest_llmperf.cli.model import with_verb
from pytest_llmperf.config.load import load_config
from pytest_llmperf.plugin.options import add_options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Reasons for not running a block. A new reason has to be added here.
REASONS = {
    "a formula",
    "builds llama.cpp",
    "builds llama.cpp several times, half an hour",
    "builds llama.cpp, minutes of measuring",
    "builds llama.cpp, runs the test suite",
    "minutes of measuring",
    "needs a GPU",
    "needs a report",
    "needs a server",
    "needs a service",
    "needs results of other tools",
    "needs the network",
    "needs the network, builds llama.cpp",
    "output, recorded",
    "output of a session, recorded",
    "the exit code depends on the machine",
    "writes workflow files",
}
#: The test file that runs the blocks of each project.
PROJECTS = {
    "project": "test_doc_commands.py",
    "first-hour": "test_doc_commands.py",
    "readme": "test_doc_commands.py",
    "walkthrough": "../ci/test_walkthrough.py",
    "module": "test_doc_python.py",
    "balancers": "../plugin/test_balanced_sessions.py",
    "python-api": "../api/test_python_api.py",
}
_DRAWN = {"mermaid", "diff"}
_SECTIONS = {"llm", "perf", "quality", "tune"}


def blocks_of(*languages: str) -> list[Block]:
    return [block for block in blocks() if block.language in languages]


def names(block: Block) -> str:
    return block.where


def is_test(block: Block) -> bool:
    """Return whether a Python block has tests, which test_doc_python.py runs."""
    return block.language == "python" and re.search(r"^def test_", block.text, re.M) is not None


def test_every_block_runs_or_says_why_not() -> None:
    silent = [
        block.where
        for block in blocks()
        if block.language not in _DRAWN | {"yaml", "toml"}
        and not (block.runs or block.not_run or is_test(block))
    ]
    assert silent == [], "put <!-- runs: PROJECT --> or <!-- not run: REASON --> before these"


def test_the_blocks_that_are_not_run_are_listed_with_their_reasons() -> None:
    skipped: dict[str, list[str]] = {}
    for block in blocks():
        if block.not_run:
            skipped.setdefault(block.not_run, []).append(block.where)
    for reason, where in sorted(skipped.items()):
        print(f"{reason}: {', '.join(where)}")
    assert set(skipped) == REASONS
    assert {block.runs for block in blocks()} - {""} == set(PROJECTS)
    for file in PROJECTS.values():
        assert (Path(__file__).parent / file).is_file()


def test_recorded_outputs_and_tables_write_changes_in_words() -> None:
    """As all outputs do: ``37.1% faster [18.0% to 50.2%]``, with neither signs nor factors."""
    sign, factor = re.compile(r"(?<![\w.,:-])[+−-]\d+(\.\d+)?%"), re.compile(r"\b\d+\.\d+x\b")
    recorded = [block for block in blocks() if block.not_run.endswith("recorded")]
    assert recorded
    assert [block.where for block in recorded if factor.search(block.text)] == []
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages()}
    assert {name: match[0] for name, text in texts.items() if (match := sign.search(text))} == {}


@pytest.mark.parametrize("block", blocks_of("sh", "console"), ids=names)
def test_a_shell_block_names_what_exists(block: Block) -> None:
    """Commands, options, scripts and targets; also those of blocks that are not run."""
    listed = list(commands(block))
    assert listed
    for words in listed:
        program, arguments = words[0], words[1:]
        if program == "llmperf":
            parser_accepts(arguments)
        elif program == "pytest":
            known = pytest_options()
            given = {word.partition("=")[0] for word in arguments if word.startswith("--llmperf")}
            assert given <= known, block.where
        elif program == "make":
            targets = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)
            assert targets is not None
            named = arguments[2:] if arguments[0] == "-C" else arguments
            assert named[0] in targets[1].split()
        elif program == "python" and arguments[0].endswith(".py"):
            assert (ROOT / arguments[0].removeprefix("pytest-llmperf/")).is_file(), block.where
            # Some flags belong to a module that several scripts share.
            scripts = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
            for flag in (word for word in arguments if word.startswith("--")):
                assert f'"{flag}"' in scripts, f"{block.where}: {arguments[0]} has no {flag}"


def parser_accepts(arguments: list[str]) -> None:
    """Fail on a command line of ``llmperf`` that its parser refuses."""
    assert build_parser().parse_args(with_verb(arguments)).command


def pytest_options() -> set[str]:
    options = _Options()
    add_options(options)  # type: ignore[arg-type]
    return {row[0].strip("`").partition(" ")[0] for row in options.rows}


@pytest.mark.parametrize("block", blocks_of("yaml"), ids=names)
def test_a_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    given = yaml.safe_load(block.text)
    if not (isinstance(given, dict) and set(given) <= _SECTIONS):
        assert given
        return
    if given.get("llm", {}).get("engine") == "acme":
        given["llm"] = {}  # the package that the page describes is not installed
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(given))
    assert load_config(file, tmp_path, {}).path == file


@pytest.mark.parametrize("block", blocks_of("toml"), ids=names)
def test_toml_can_be_read(block: Block) -> None:
    assert tomllib.loads(block.text)


def test_pages_say_nothing_of_a_command_that_is_gone() -> None:
    """A command in running text, such as ``llmperf baseline show``, exists."""
    commands_of = {
        action.dest: action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    }
    known = set(commands_of["command"].choices)
    named = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        named |= set(re.findall(r"`llmperf ([a-z]+)[ `]", page.read_text(encoding="utf-8")))
    assert named <= known
    options = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        options |= set(re.findall(r"--llmperf-[a-z-]*[a-z]", page.read_text(encoding="utf-8")))
    assert options <= pytest_options()
