from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.cpus import auto_threads, usable_cpus


def _tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def _many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 CPUs, 12 of them usable, so that quotas below are the limit."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)


def test_without_a_quota_the_affinity_decides(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 12


def test_without_affinity_the_cpu_count_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(tmp_path) == 16


def test_a_v2_quota_counts(tmp_path: Path) -> None:
    root = _tree(tmp_path, "0::/job\n", {"job/cpu.max": "400000 100000\n"})
    assert usable_cpus(root) == 4


def test_a_quota_is_rounded_down(tmp_path: Path) -> None:
    root = _tree(tmp_path, "0::/job\n", {"job/cpu.max": "290000 100000\n"})
    assert usable_cpus(root) == 2


def test_a_quota_below_one_cpu_still_leaves_one(tmp_path: Path) -> None:
    root = _tree(tmp_path, "0::/job\n", {"job/cpu.max": "50000 100000\n"})
    assert usable_cpus(root) == 1


def test_an_ancestors_quota_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}
    assert usable_cpus(_tree(tmp_path, "0::/a/b\n", files)) == 3


def test_inside_a_container_the_mounts_own_quota_counts(tmp_path: Path) -> None:
    root = _tree(tmp_path, "0::/../../docker/abc\n", {"cpu.max": "200000 100000\n"})
    assert usable_cpus(root) == 2


def test_a_v1_quota_counts(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "500000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
    }
    root = _tree(tmp_path, "5:memory:/\n4:cpu,cpuacct:/job\n0::/\n", files)
    assert usable_cpus(root) == 5


def test_a_v1_group_without_a_limit_does_not_count(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert usable_cpus(_tree(tmp_path, "1:cpu:/\n", files)) == 12


def test_garbage_in_the_cgroup_files_is_ignored(tmp_path: Path) -> None:
    root = _tree(tmp_path, "\n::\n0::/\nx\n", {"cpu.max": "fast\n", "unified/cpu.max": "1 0\n"})
    assert usable_cpus(root) == 12


def test_auto_takes_at_most_its_limit(tmp_path: Path) -> None:
    assert auto_threads(root=tmp_path) == 8
    assert auto_threads(limit=3, root=tmp_path) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="sets the affinity as Linux does")
def test_a_real_affinity_is_seen() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from pytest_llmperf.cpus import usable_cpus; print(usable_cpus())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "1"
