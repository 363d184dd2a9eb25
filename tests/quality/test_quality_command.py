"""``llmperf quality``: the figures of the configuration, against a reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import tiny_llama

from pytest_llmperf.cli import main


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coarse: Path) -> Path:
    """Return a project with a coarse model and a cache of its own."""
    small = "n_ctx: 128, n_batch: 64, n_ubatch: 64, max_tokens: 8, n_threads: 1, n_threads_batch: 1"
    (tmp_path / "config.yaml").write_text(f"llm: {{model_path: {coarse}, {small}}}")
    (tmp_path / "words.txt").write_text("Green bottles, blue bottles. " * 10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(tmp_path / "device.lock"))
    return tmp_path


def test_all_figures_are_printed_and_written(project, capsys: pytest.CaptureFixture[str]) -> None:
    reference = str(tiny_llama(seed=1))
    command = ["quality", "--reference", reference, "--text", "words.txt", "--json", "out.json"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert (
        "coarse.gguf compared with the reference tiny-llama.gguf: 126 positions of words.txt"
        in (" ".join(out.split()))
    )
    for label in ("KL divergence", "perplexity increase", "same top token", "greedy agreement"):
        assert label in out
    assert "nats" in out
    written = json.loads((project / "out.json").read_text())
    assert written["figures"]["kl"] > 0
    assert written["text"] == "words.txt"
    assert main(command) == 0
    assert "measured before with the same model, build and settings" in capsys.readouterr().out


def test_other_settings_of_the_same_model_are_a_reference(project, capsys) -> None:
    assert (
        main(["quality", "--set", "quality.reference.flash_attn=true", "--text", "words.txt"]) == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "flash_attn: reference True, candidate False" in out


def test_a_missing_reference_is_said(project, capsys) -> None:
    assert main(["quality"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "the configuration names none; set quality.reference.model_path to a finer model" in err
    assert main(["quality", "--reference", "none.gguf"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_missing_text_is_said(project, capsys) -> None:
    reference = ["--reference", str(tiny_llama(seed=1))]
    assert main(["quality", *reference, "--text", "none.txt"]) == 1
    assert "the text none.txt can't be read: no such file or directory" in capsys.readouterr().err
    (project / "latin.txt").write_bytes("grün".encode("latin-1"))
    assert main(["quality", *reference, "--text", "latin.txt"]) == 1
    assert "latin.txt is not UTF-8; save it as UTF-8" in capsys.readouterr().err
