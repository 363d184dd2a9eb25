"""Stored scores and results are used again, and damaged ones are measured again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_models import tiny_llama


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted((folder / "quality").glob(f"*.{ending}"))


def test_a_stored_result_starts_no_engine(quality, spec, starts, coarse: Path) -> None:
    first = quality(spec(coarse), spec())
    assert (len(starts.specs), first.from_cache) == (2, False)
    again = quality(spec(coarse), spec())
    assert (len(starts.specs), again.from_cache) == (2, True)
    assert again.kl == first.kl
    assert again.kl_interval == first.kl_interval
    assert again.reference == "tiny-llama.gguf"


def test_another_candidate_uses_the_references_scores(quality, spec, starts, coarse: Path) -> None:
    quality(spec(coarse), spec())
    quality(spec(coarse, flash_attn=True), spec())
    assert [launch.config["flash_attn"] for launch in starts.specs] == [False, False, True]
    # Threads and time limits change no probability, the size of the context may.
    quality(spec(coarse, n_threads=2, load_timeout=99.0), spec(use_mmap=False))
    assert len(starts.specs) == 3
    quality(spec(coarse, n_ctx=128), spec(n_ctx=128))
    assert len(starts.specs) == 5


def test_a_changed_file_of_the_same_name_is_measured(
    quality, spec, starts, coarse: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    shutil.copyfile(coarse, model)
    first = quality(spec(model), spec())
    shutil.copyfile(tiny_llama(seed=2), model)
    second = quality(spec(model), spec())
    assert second.kl != first.kl
    assert not second.from_cache


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1, "result": {"kl": 1}}', None])
def test_a_damaged_file_is_measured_again_with_a_note(
    quality, spec, starts, coarse: Path, tmp_path: Path, content: bytes | None
) -> None:
    first = quality(spec(coarse), spec())
    (result,), (scores,) = _files(tmp_path, "json"), _files(tmp_path, "npz")
    for file in (result, scores):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    again = quality(spec(coarse), spec())
    assert again.kl == first.kl
    assert len(starts.specs) == 4
    assert len(again.notes) == 2
    for note, file in zip(again.notes, (result, scores), strict=True):
        assert note.startswith(f"{file} is damaged and was measured again: ")
    assert quality(spec(coarse), spec()).notes == ()


def test_a_folder_that_cannot_be_written_costs_only_time(
    quality, spec, coarse: Path, tmp_path: Path
) -> None:
    (tmp_path / "quality").write_text("a file, no folder")
    result = quality(spec(coarse), spec())
    assert result.kl > 0
    assert any("quality is measured again next time" in note for note in result.notes)
