"""Texts that count things use the singular for one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.baselines.record import ImportOrigin, SourceFile
from pytest_llmperf.engine.kinds import replicas_text
from pytest_llmperf.engine.load_report import DeviceLoad
from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.text import count


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "pair", "0 pairs"),
        (1, "pair", "1 pair"),
        (2, "process", "2 processes"),
        (1, "group of pairs", "1 group of pairs"),
        (3, "group of pairs", "3 groups of pairs"),
    ],
)
def test_a_count_has_its_noun(number: int, noun: str, text: str) -> None:
    assert count(number, noun) == text


@pytest.mark.parametrize(("files", "more"), [(4, "and 1 more file"), (5, "and 2 more files")])
def test_the_files_of_an_import(files: int, more: str) -> None:
    names = tuple(SourceFile(f"{number}.json", "0" * 64) for number in range(files))
    assert str(ImportOrigin("vllm", "", names, ())).endswith(more)


@pytest.mark.parametrize(("lines", "more"), [(2, ", and 1 more line;"), (3, ", and 2 more lines;")])
def test_the_unusable_lines_of_kept_pairs(tmp_path: Path, lines: int, more: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}\n" * lines)
    pairs = KeptPairs(tmp_path)
    assert pairs.read(file) == []
    assert more in pairs.problems[0]


def test_layers_and_replicas() -> None:
    assert str(DeviceLoad("CUDA0", layers=1)) == "CUDA0: 1 layer"
    assert str(DeviceLoad("CUDA0", layers=2)) == "CUDA0: 2 layers"
    assert (replicas_text("a"), replicas_text("ab")) == ("1 replica", "2 replicas")
