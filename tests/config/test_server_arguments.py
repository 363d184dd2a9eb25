"""Entries of ``llm.extra`` become arguments of the command that starts a server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_llmperf.config.cell_settings import WrongSettingError, check_name, with_settings
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.llm_section import read_llm
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.server_arguments import started_command

START = "llama-server -m model.gguf --port {port}"


def load(root: Path, *overrides: str, **llm: Any) -> Any:
    text = yaml.safe_dump({"llm": {"engine": "server", **llm}})
    (root / "config.yaml").write_text(text)
    return load_config(None, root, {}, overrides).config.llm


def message(root: Path, *overrides: str, **llm: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, *overrides, **llm)
    return str(caught.value)


def test_an_argument_is_a_flag_or_has_a_value_or_is_left_out() -> None:
    extra = {
        "parallel": 4,
        "cache-type-k": "q8_0",
        "metrics": True,
        "mlock": False,
        "alias": "it's mine",
        "temp": -0.5,
        "threads": None,
        # Arguments of the command here, not the section's own settings.
        "seed": 7,
        "model": "a b.gguf",
    }
    llm = read_llm({"engine": "server", "start": START, "extra": extra})
    command = started_command(START, llm.resolved()["extra"])
    assert command.startswith(f"{START} --parallel 4 --cache-type-k q8_0 --metrics --alias ")
    assert shlex.split(command)[10:] == [
        *("--alias", "it's mine", "--temp", "-0.5", "--seed", "7", "--model", "a b.gguf")
    ]
    assert started_command(START, {"mlock": False}) == START


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"--parallel": 4}, "is not the name of an option; write it without its dashes, such as"),
        ({"a b": 4}, "is not the name of an option"),
        ({"api-key": "sesame"}, "holds a key, and files and records are no place for keys; set"),
        ({"API_KEYS": "sesame"}, "holds a key"),
        ({"hf-token": "sesame"}, "holds a key"),
        ({"port": 8080}, "llm.start has --port already; keep one of them"),
        ({"ctx_size": 512}, "llm.start has --ctx-size already; keep one of them"),
        ({"m": None}, "llm.start has -m already; keep one of them"),
        ({"lora": ["a"]}, "expected true, a number or text, got a list; put quotes around what"),
        ({"config": {"level": 3}}, "expected true, a number or text, got a mapping; put quotes"),
    ],
)
def test_what_is_no_argument_is_refused(tmp_path: Path, extra: dict[str, Any], text: str) -> None:
    error = message(tmp_path, start=f"{START} --ctx-size=256", extra=extra)
    (name,) = extra
    assert error.startswith("config.yaml:4: ")
    assert f"llm.extra.{name}: {text}" in error
    assert "sesame" not in error


def test_a_server_that_runs_already_takes_no_arguments(tmp_path: Path) -> None:
    error = message(tmp_path, url="http://a", extra={"parallel": 4})
    assert (
        "llm.extra.parallel: llm.url names a server that runs already, so it can't be given "
        "arguments; remove it, or let llm.start start the server" in error
    )


def test_an_argument_is_a_setting_like_any_other(tmp_path: Path) -> None:
    llm = load(tmp_path, "llm.extra.parallel=4", start=START, extra={"ctx-size": 512})
    assert llm.extra == {"ctx-size": 512, "parallel": 4}
    error = message(tmp_path, "llm.extra.port=1", start=START)
    assert error == "--llmperf-set llm.extra.port: llm.start has --port already; keep one of them"
    check_name(llm, "extra.parallel")
    swept = with_settings(llm, {"extra.parallel": 2, "extra.ctx-size": None})
    assert started_command(START, swept.extra) == f"{START} --parallel 2"
    with pytest.raises(WrongSettingError, match=r"^extra.port: llm.start has --port already"):
        with_settings(llm, {"extra.port": 1})
    # A server is started with them, so other values need another process.
    assert llm.kind.load_settings(llm.resolved())["extra.parallel"] == 4
