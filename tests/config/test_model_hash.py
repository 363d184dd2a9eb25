from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pytest_llmperf.config.embedded import file_sha256


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF one")
    return file


def test_the_hash_is_that_of_the_content(file: Path, tmp_path: Path) -> None:
    assert file_sha256(file, tmp_path / "cache") == hashlib.sha256(b"GGUF one").hexdigest()


def test_a_file_that_did_not_change_is_not_read_again(file: Path, tmp_path: Path) -> None:
    first = file_sha256(file, tmp_path / "cache")
    seen = file.stat()
    with file.open("r+b") as same_inode:
        same_inode.write(b"GGUF two")
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert file_sha256(file, tmp_path / "cache") == first


def test_a_file_that_changed_is_read_again(file: Path, tmp_path: Path) -> None:
    file_sha256(file, tmp_path / "cache")
    file.write_bytes(b"GGUF three")

    again = file_sha256(file, tmp_path / "cache")

    assert again == hashlib.sha256(b"GGUF three").hexdigest()


@pytest.mark.parametrize("note", ["", "[]", '{"seen": 3}', "\x00"])
def test_a_damaged_note_costs_only_time(file: Path, tmp_path: Path, note: str) -> None:
    first = file_sha256(file, tmp_path / "cache")
    for path in (tmp_path / "cache" / "hashes").iterdir():
        path.write_text(note)

    assert file_sha256(file, tmp_path / "cache") == first


def test_a_cache_that_can_not_be_written_costs_only_time(file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")

    assert file_sha256(file, tmp_path / "cache") == hashlib.sha256(b"GGUF one").hexdigest()
