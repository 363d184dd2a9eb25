"""hf:// models through the real huggingface_hub, against a stand-in for the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_llama

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.hub import HubFile, parse

_CONTENT = b"GGUF\x03\x00\x00\x00 the newest"
_OLD = b"GGUF\x03\x00\x00\x00 an older one"
_SCRIPT = """
import sys
from pathlib import Path
from typing import Any
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.model_path import resolve_model
try:
    print(resolve_model(sys.argv[1], Path.cwd()))
except ModelError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""


class _Downloads:
    """Resolves models in new processes, as huggingface_hub reads its settings when imported."""

    def __init__(self, hub: Any, home: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        kept = {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")}
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home)}
        self.environ = {**kept, **settings, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def run(self, model_path: str, script: str = _SCRIPT, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", script, model_path],
            env={**self.environ, **environ},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()

    def refused(self, model_path: str, **environ: str) -> str:
        status, text = self.run(model_path, **environ)
        assert status == 3, text
        return text.splitlines()[-1]


@pytest.fixture
def downloads(hub: Any, tmp_path: Path) -> _Downloads:
    hub.files["acme/tiny", "main", "q4/tiny.gguf"] = _CONTENT
    hub.files["acme/tiny", "v1", "q4/tiny.gguf"] = _OLD
    hub.files["acme/tiny", "main", "zip.gguf"] = b"PK\x03\x04"
    return _Downloads(hub, tmp_path / "home")


def test_a_model_is_downloaded_into_the_hubs_own_cache(
    downloads: _Downloads, tmp_path: Path
) -> None:
    status, path = downloads.run("hf://acme/tiny/q4/tiny.gguf")
    assert status == 0, path
    assert Path(path).read_bytes() == _CONTENT
    assert Path(path).is_relative_to(tmp_path / "home")


def test_a_revision_can_be_named(downloads: _Downloads) -> None:
    _, path = downloads.run("hf://acme/tiny@v1/q4/tiny.gguf")
    assert Path(path).read_bytes() == _OLD


def test_a_cached_model_is_not_downloaded_again(downloads: _Downloads, hub: Any) -> None:
    first = downloads.run("hf://acme/tiny/q4/tiny.gguf")
    assert downloads.run("hf://acme/tiny/q4/tiny.gguf") == first
    assert sum(request.startswith("GET") for request in hub.requests) == 1


def test_offline_a_cached_model_is_found_without_a_request(downloads: _Downloads, hub: Any) -> None:
    online = downloads.run("hf://acme/tiny/q4/tiny.gguf")
    hub.requests.clear()
    assert downloads.run("hf://acme/tiny/q4/tiny.gguf", HF_HUB_OFFLINE="1") == online
    assert hub.requests == []


def test_without_a_network_a_cached_model_is_found(downloads: _Downloads) -> None:
    online = downloads.run("hf://acme/tiny/q4/tiny.gguf")
    assert downloads.run("hf://acme/tiny/q4/tiny.gguf", HF_ENDPOINT="http://127.0.0.1:9") == online


def test_offline_a_model_that_is_not_cached_says_so(downloads: _Downloads, hub: Any) -> None:
    message = downloads.refused("hf://acme/tiny/q4/tiny.gguf", HF_HUB_OFFLINE="1")
    assert "not in the local cache, and HF_HUB_OFFLINE is set" in message
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_named(downloads: _Downloads) -> None:
    # huggingface_hub retries for half a minute; only its waits are removed.
    hasty = "import time; time.sleep = lambda _: None\n" + _SCRIPT
    status, message = downloads.run(
        "hf://acme/tiny/q4/tiny.gguf", hasty, HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert status == 3
    assert "not in the local cache, and http://127.0.0.1:9 cannot be reached" in message


def test_a_missing_repository_is_named(downloads: _Downloads, hub: Any) -> None:
    message = downloads.refused("hf://acme/gone/a.gguf")
    assert f"{hub.endpoint} has no repository acme/gone, or it is private" in message


def test_a_missing_file_is_named(downloads: _Downloads) -> None:
    assert "acme/tiny has no file 'gone.gguf'" in downloads.refused("hf://acme/tiny/gone.gguf")


def test_a_missing_revision_is_named(downloads: _Downloads) -> None:
    message = downloads.refused("hf://acme/tiny@v9/q4/tiny.gguf")
    assert "acme/tiny has no revision 'v9'" in message


def test_a_gated_repository_says_where_its_terms_are(downloads: _Downloads, hub: Any) -> None:
    hub.errors["acme/tiny"] = (403, "GatedRepo")
    message = downloads.refused("hf://acme/tiny/q4/tiny.gguf")
    assert f"acme/tiny is gated: accept its terms at {hub.endpoint}/acme/tiny" in message


def test_a_refused_token_is_named(downloads: _Downloads, hub: Any) -> None:
    hub.errors["acme/tiny"] = (403, "")
    message = downloads.refused("hf://acme/tiny/q4/tiny.gguf")
    assert f"{hub.endpoint} refuses access (403); check HF_TOKEN" in message


def test_a_downloaded_file_that_is_no_model_is_refused(downloads: _Downloads) -> None:
    assert "is not a GGUF file" in downloads.refused("hf://acme/tiny/zip.gguf")


def test_without_huggingface_hub_the_extra_is_named(downloads: _Downloads) -> None:
    blocked = "import sys; sys.modules['huggingface_hub'] = None\n" + _SCRIPT
    status, message = downloads.run("hf://acme/tiny/q4/tiny.gguf", blocked)
    assert status == 3
    assert "run: pip install 'pytest-llmperf[hub]'" in message


def test_all_files_of_a_split_model_are_downloaded_from_one_commit(
    downloads: _Downloads, hub: Any
) -> None:
    parts = sorted(tiny_llama(shards=3).parent.iterdir())
    hub.files["acme/split", "main", f"q4/{parts[0].name}"] = parts[0].read_bytes()
    for file in parts[1:]:
        # The branch's files now belong to another commit.
        hub.files["acme/split", "main", f"q4/{file.name}"] = _OLD
        hub.files["acme/split", hub.commit, f"q4/{file.name}"] = file.read_bytes()
    status, path = downloads.run(f"hf://acme/split/q4/{parts[0].name}")
    assert status == 0, path
    brought = sorted(Path(path).parent.iterdir())
    assert [file.read_bytes() for file in brought] == [file.read_bytes() for file in parts]
    assert downloads.run(f"hf://acme/split/q4/{parts[0].name}", HF_HUB_OFFLINE="1") == (0, path)


def test_a_file_of_a_split_model_that_the_hub_lacks_is_named(
    downloads: _Downloads, hub: Any
) -> None:
    first, second, _ = sorted(tiny_llama(shards=3).parent.iterdir())
    for name in (first.name, second.name):
        hub.files["acme/split", "main", name] = (first.parent / name).read_bytes()
    hub.files["acme/split", hub.commit, "README.md"] = b""
    assert f"acme/split has no file {second.name!r}" in downloads.refused(
        f"hf://acme/split/{first.name}"
    )
    assert "part 2 of a model in 3 files" in downloads.refused(f"hf://acme/split/{second.name}")


def test_a_path_is_taken_apart() -> None:
    assert parse("hf://acme/tiny/q4/tiny.gguf") == HubFile("acme/tiny", "q4/tiny.gguf", None)
    assert parse("hf://acme/tiny@v1/t.gguf") == HubFile("acme/tiny", "t.gguf", "v1")


@pytest.mark.parametrize(
    "model_path",
    [
        "hf://",
        "hf://tiny.gguf",
        "hf://acme/tiny.gguf",
        "hf://acme/tiny/model.safetensors",
        "hf://acme/tiny/t.gguf@v1",
        "hf://acme/tiny/../../t.gguf",
    ],
)
def test_another_form_is_refused(model_path: str) -> None:
    with pytest.raises(ModelError, match=r"expected hf://owner/repo/file\.gguf"):
        parse(model_path)
