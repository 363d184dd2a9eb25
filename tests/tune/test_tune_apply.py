"""What a search leaves behind: settings in config.yaml, a summary and JSON."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from tune_projects import COMMAND, configure

from pytest_llmperf.cli import main
from pytest_llmperf.cli.tune import add_parser
from pytest_llmperf.cli.tune_command import public_command, search_words

SUMMARY = "BENCHMARK_RESULTS_SUMMARY.md"
PROMPT = ("--prompt", "A question about caches. " * 6, "--max-tokens", "4")


def _backups(folder: Path) -> list[Path]:
    return [*folder.glob("config.yaml.bak-*")]


def test_a_proven_gain_is_written_down_and_applied_by_the_command_that_is_named(
    project: pytest.Pytester,
) -> None:
    configure(project.path, {"n_batch": [1, 512]}, n_batch=1)
    file = project.path / "config.yaml"
    old = file.read_text()
    arguments = ["--phase", "1", "--summary", "--json", "out.json", "--", "-k", "short"]
    result = project.run(*COMMAND, *arguments, timeout=150)
    assert result.ret == 0
    assert file.read_text() == old
    summary = (project.path / SUMMARY).read_text()
    assert summary.startswith("# Benchmark results\n\n**Improved: first token")
    assert "```sh\nllmperf tune --phase 1 -- -k short\n```" in summary
    written = json.loads((project.path / "out.json").read_text())
    assert written["schema"] == "llmperf-tune/1"
    assert written["command"] == "llmperf tune --phase 1 -- -k short"
    assert written["winner"]["changed"] == {"n_batch": 512}
    # The commands in the printed text do what it says.
    apply, *exports = (line.strip() for line in result.outlines if line.startswith("  llmperf "))
    programs = ("llama-server", "ollama", "python")
    assert exports == [f"llmperf export {program} --set llm.n_batch=512" for program in programs]
    exported = [project.run(*COMMAND[:-1], *shlex.split(line)[1:], timeout=60) for line in exports]
    for part, run in zip(("-b 512", "num_batch 512", "n_batch=512,"), exported, strict=True):
        assert part in run.stdout.str()
    assert apply == "llmperf tune --phase 1 --apply -- -k short"
    applied = project.run(*COMMAND[:-1], *shlex.split(apply)[1:], timeout=60)
    assert applied.ret == 0
    assert "nothing is measured again" in applied.stderr.str()
    assert "collected" not in applied.stdout.str()
    applied.stdout.fnmatch_lines(["-  n_batch: 1", "+  n_batch: 512", "settings written to *"])
    # Their output is printed below the diff, with the full path of the model.
    for run in exported:
        assert run.stdout.str().strip() in applied.stdout.str()
    assert file.read_text() == old.replace("n_batch: 1\n", "n_batch: 512\n")
    (backup,) = _backups(project.path)
    assert backup.read_text() == old


def test_a_search_of_a_prompt_applies_what_it_proves(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(folder, {"n_batch": [1, 512]}, n_batch=1)
    assert main(["tune", *PROMPT, "--apply", "--phase", "1"]) == 0
    out = capsys.readouterr().out
    assert "improved: end to end" in out
    assert "settings written to" in out
    assert yaml.safe_load((folder / "config.yaml").read_text())["llm"]["n_batch"] == 512
    assert len(_backups(folder)) == 1


def test_without_a_proven_gain_nothing_is_applied(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(folder, {"use_mmap": [True, False]})
    old = (folder / "config.yaml").read_bytes()
    arguments = ["--apply", "--summary", "mine.md", "--set", "tune.min_gain=50%"]
    assert main(["tune", *PROMPT, *arguments]) == 0
    assert "nothing to apply: no improvement is proven" in capsys.readouterr().out
    assert (folder / "config.yaml").read_bytes() == old
    assert not _backups(folder)
    assert "no improvement was proven" in (folder / "mine.md").read_text()


@pytest.mark.parametrize(
    ("number", "what"),
    [(signal.SIGINT, PROMPT), (signal.SIGTERM, PROMPT), (signal.SIGTERM, ())],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM to the tests"],
)
def test_an_interrupted_search_is_written_down_and_applies_nothing(
    project: pytest.Pytester, number: signal.Signals, what: tuple[str, ...]
) -> None:
    folder = project.path
    configure(folder, {"n_batch": [1, 16, 64, 512], "use_mmap": [True, False]}, n_batch=1)
    old = (folder / "config.yaml").read_bytes()
    command = [*COMMAND, *what, "--apply", "--summary", "--json", "out.json"]
    with subprocess.Popen(
        # One stream: without --prompt pytest runs the search and prints by itself.
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    ) as search:
        assert search.stdout is not None
        for line in search.stdout:
            if "point 1 " in line:
                os.kill(search.pid, number)
                break
        out, _ = search.communicate(timeout=60)
    assert search.returncode == 130
    assert "nothing is applied: the search was interrupted" in out
    assert (folder / "config.yaml").read_bytes() == old
    written = json.loads((folder / "out.json").read_text())
    assert written["interrupted"]
    assert written["points"]
    assert "the search was interrupted" in (folder / SUMMARY).read_text()


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--summary", "none/a.md"], "--summary none/a.md: there is no folder", 1),
        (["--json", "none/a.json"], "--json none/a.json: there is no folder", 1),
        (["--apply", "--set", "llm.n_batch=1"], "llm.n_batch is set by --set", 1),
        (["--apply"], "is read-only; make it writable", 1),
    ],
)
def test_what_can_not_be_written_is_said_before_the_search(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    status: int,
) -> None:
    configure(folder, {})
    (folder / "config.yaml").chmod(0o444)
    assert main(["tune", *PROMPT, *arguments]) == status
    assert message in capsys.readouterr().err
    assert not (folder / "cache" / "tune").exists()


def test_the_command_repeats_the_search_and_in_a_document_has_no_secrets() -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    words = [
        *("tune", "--prompt", "two words", "--max-tokens", "4", "--config", "a b.yaml"),
        *("--set", "llm.extra.key=secret", "--set", "tune.budget=5m", "--budget", "90s"),
        *("--phase", "1", "--study", "mine", "--storage", "postgresql://me:hunter2@db/optuna"),
        *("--apply", "--summary", "--", "-k", "a or b"),
    ]
    arguments = parser.parse_args(words)
    shown = public_command(arguments)
    assert shown == (
        "llmperf tune --prompt 'two words' --max-tokens 4 --config 'a b.yaml' "
        "--set 'llm.extra.key=***' --set tune.budget=5m --budget 90s --phase 1 --study mine "
        "--storage postgresql://me@db/optuna -- -k 'a or b'"
    )
    again = parser.parse_args(search_words(arguments)[1:])
    ignored = {"apply": True, "summary": ""}
    assert {**vars(again), **ignored} == vars(arguments)
