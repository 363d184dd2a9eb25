"""Files that are read into memory again."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.machine.file_pages import large_pages, read_again

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drops no pages")
SIZE = 64 * 1024 * 1024


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file on a disk, in memory from its beginning to its end."""
    kinds = {one.mountpoint: one.fstype for one in psutil.disk_partitions(all=True)}
    mounted = next(one for one in (tmp_path, *tmp_path.parents) if str(one) in kinds)
    if kinds[str(mounted)] in ("tmpfs", "ramfs"):
        pytest.skip(f"{mounted} is in memory only")
    made = tmp_path / "model.gguf"
    with made.open("wb") as stream:
        stream.write(os.urandom(SIZE))
        os.fsync(stream.fileno())
    return made


def resident(file: Path) -> float:
    """The share of a file's pages that are in memory (mincore(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        pages = SIZE // mmap.PAGESIZE
        found = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(SIZE), found) == 0
    return sum(one & 1 for one in found) / pages


def test_pages_are_dropped_and_come_back(file: Path) -> None:
    before = file.read_bytes()
    assert resident(file) == 1.0
    read_again(file, longest=0.0)
    assert resident(file) < 1.0
    read_again(file)
    assert resident(file) == 1.0
    assert file.read_bytes() == before


def test_a_file_that_was_read_in_order_lies_in_larger_pages(file: Path) -> None:
    small = file.with_name("small.gguf")
    with file.open("rb") as source, small.open("wb", buffering=0) as target:
        while piece := source.read(mmap.PAGESIZE):
            target.write(piece)
        os.fsync(target.fileno())
    assert large_pages(small) == 0.0
    read_again(file)
    share = large_pages(file)
    assert share is not None
    if share == 0.0:
        pytest.skip("this system keeps no file in large pages")
    assert 0.25 < share <= 1.0
    read_again(small)
    assert large_pages(small) == pytest.approx(share, abs=0.25)


def test_a_file_that_can_not_be_read_is_left_to_its_user(tmp_path: Path) -> None:
    read_again(tmp_path / "missing.gguf")
    read_again(tmp_path)
