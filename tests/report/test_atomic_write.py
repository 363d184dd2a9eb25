"""Files are written whole or not at all, whatever stands in their place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.atomic_write import atomic_write


def test_a_file_is_replaced_and_nothing_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")  # the longest possible name
    for content in ("ünï\n", b"\xff\n", ""):
        atomic_write(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    atomic_write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_write(path, "\ud800")
    assert path.read_text() == "old"
    with pytest.raises(IsADirectoryError):
        atomic_write(tmp_path, "new")
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "gone" / "report.json", "new")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    code = (
        "import pathlib, resource\n"
        "from pytest_llmperf.atomic_write import atomic_write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        f"atomic_write(pathlib.Path({str(path)!r}), 'new' * 100)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_keeps_its_place(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    atomic_write(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="no such file there")
def test_a_device_is_written_to_where_it_is() -> None:
    device = Path("/dev/null")
    atomic_write(device, "new")
    assert device.is_char_device()
