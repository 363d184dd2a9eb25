"""Files that are read into memory again."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.machine import file_pages
from pytest_llmperf.machine.file_pages import read_again

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drops no pages")
SIZE = 64 * 1024 * 1024


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file on a disk, with all of its pages in memory."""
    kinds = {disk.mountpoint: disk.fstype for disk in psutil.disk_partitions(all=True)}
    mounted = next(path for path in (tmp_path, *tmp_path.parents) if str(path) in kinds)
    if kinds[str(mounted)] in ("tmpfs", "ramfs"):
        pytest.skip(f"{mounted} is in memory only")
    made = tmp_path / "model.gguf"
    with made.open("wb") as stream:
        stream.write(os.urandom(SIZE))
        os.fsync(stream.fileno())
    return made


def resident(file: Path) -> float:
    """Return the share of a file's pages that are in memory (mincore(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        pages = SIZE // mmap.PAGESIZE
        flags = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(SIZE), flags) == 0
    return sum(flag & 1 for flag in flags) / pages


def large_pages(file: Path) -> int:
    """Return the number of bytes of a file that are mapped in large pages."""
    with file.open("rb") as stream:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        with mmap.mmap(stream.fileno(), 0, flags=flags, prot=mmap.PROT_READ):
            lines = iter(Path("/proc/self/smaps").read_text().split("\n"))
            next(line for line in lines if line.endswith(str(file)))
            return int(next(line for line in lines if "FilePmdMapped:" in line).split()[1]) * 1024


def test_pages_are_dropped_and_come_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_pages, "_WINDOW", SIZE // 4)
    before = file.read_bytes()
    dropped = []
    advise = os.posix_fadvise

    def noted(descriptor: int, at: int, length: int, advice: int) -> None:
        advise(descriptor, at, length, advice)
        dropped.append(resident(file))

    monkeypatch.setattr(os, "posix_fadvise", noted)
    assert resident(file) == 1.0
    read_again([file])
    # Never more than a window is missing, whenever reading stops.
    assert len(dropped) == 4
    assert all(0.7 < share < 1.0 for share in dropped)
    assert resident(file) == 1.0
    assert file.read_bytes() == before


def test_after_its_time_the_rest_stays_in_memory(file: Path) -> None:
    read_again([file], max_seconds=0.0)
    assert resident(file) == 1.0


def test_a_file_that_was_read_in_order_lies_in_larger_pages(file: Path) -> None:
    small = file.with_name("small.gguf")
    with file.open("rb") as source, small.open("wb", buffering=0) as target:
        while piece := source.read(mmap.PAGESIZE):
            target.write(piece)
        os.fsync(target.fileno())
    assert large_pages(small) == 0
    read_again([small])
    if large_pages(small) == 0:
        pytest.skip("this system keeps no file in large pages")
    assert large_pages(small) > SIZE // 4


def test_a_file_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_again([tmp_path / "missing.gguf"])
