"""Writing settings to config.yaml: only the changed values, with a backup, or nothing."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.config.edit import Applied, apply_settings, file_digest
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.load import load_config

SHIPPED = Path(__file__).parents[2] / "config.yaml"


def _apply(file: Path, changes: Mapping[str, Any], **others: Any) -> Applied:
    return apply_settings(file, changes, environ=others.pop("environ", {}), **others)


def _written(tmp_path: Path, text: str, changes: Mapping[str, Any]) -> str:
    """Return the new text; ``apply_settings`` itself checks that the settings took effect."""
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode())
    _apply(file, changes)
    return file.read_bytes().decode()


def _refusal(file: Path, changes: Mapping[str, Any], **others: Any) -> str:
    """Return the error's message, and check that no file in the folder changed."""
    before = {path: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        _apply(file, changes, **others)
    after = {path: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    assert after == before
    return str(caught.value)


def test_only_the_changed_values_of_the_shipped_file_change(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(old := SHIPPED.read_text())
    changes = {
        "llm.n_batch": 4096,
        "llm.n_ubatch": 128,
        "llm.n_threads": 2,
        "llm.flash_attn": True,
        "llm.type_k": "q8_0",
        "llm.tensor_split": [0.6, 0.4],
        "llm.extra": {"rope_freq_base": 1e-05},
        "llm.n_ctx": 2048,  # unchanged
    }
    shown: list[str] = []
    applied = _apply(file, changes, show=shown.append)
    new = file.read_text()
    lines = [(a, b) for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b]
    assert [b.partition("#")[0].split(":", 1)[1].strip() for _, b in lines] == [
        "4096", "128", "2", "[0.6, 0.4]", "true", "q8_0", "{rope_freq_base: 1.0e-05}",
    ]  # fmt: skip
    for a, b in lines[:3]:
        assert a.index("#") == b.index("#")
        assert a.partition("#")[2] == b.partition("#")[2]
    config = load_config(file, tmp_path, {}).config
    assert config.llm.extra == {"rope_freq_base": 1e-05}
    assert config.llm.tensor_split == [0.6, 0.4]
    assert shown == [applied.diff]
    assert "-  n_batch: 1024              # maximum" in applied.diff
    assert "+  n_batch: 4096              # maximum" in applied.diff
    assert applied.backup is not None
    assert applied.backup.name.startswith("config.yaml.bak-2")
    assert applied.backup.read_text() == old


@pytest.mark.parametrize(
    ("old", "changes", "new"),
    [
        pytest.param(
            "llm:\n    n_batch:    512\n    # a note\n    seed: 1\n\n# judging\nperf: {}\n",
            {"llm.n_ubatch": 256},
            "llm:\n    n_batch:    512\n    n_ubatch: 256\n    # a note\n    seed: 1\n\n"
            "# judging\nperf: {}\n",
            id="after the key that usually precedes it, indented as the file is",
        ),
        pytest.param(
            "llm:\n  n_ctx: 512  # short,\n              # for chats\n\n# judging\nperf:\n",
            {"llm.flash_attn": True},
            "llm:\n  n_ctx: 512  # short,\n              # for chats\n  flash_attn: true\n\n"
            "# judging\nperf:\n",
            id="below the comment of the last key, above the next section's",
        ),
        pytest.param(
            "llm:\n   # n_ctx: 512\nperf:\n  strict: true",
            {"llm.n_ctx": 1024, "perf.seed": 3},
            "llm:\n   # n_ctx: 512\n   n_ctx: 1024\nperf:\n  strict: true\n  seed: 3",
            id="into a section with comments only, and at the end without a line end",
        ),
        pytest.param(
            "llm: null # later\n",
            {"llm.n_ctx": 1024},
            "llm: # later\n  n_ctx: 1024\n",
            id="into a null section",
        ),
        pytest.param(
            "perf:\n    strict: true\n",
            {"llm.n_ctx": 1024, "llm.seed": 1},
            "perf:\n    strict: true\nllm:\n    n_ctx: 1024\n    seed: 1\n",
            id="a new section",
        ),
        pytest.param("# nothing yet\n", {"llm.seed": 1}, "# nothing yet\nllm:\n  seed: 1\n"),
        pytest.param(
            "{llm: {n_ctx: 512, extra: {}}}  # one line\n",
            {"llm.n_ctx": 1024, "llm.extra": {"numa": True}, "llm.seed": 1, "perf.seed": 2},
            "{llm: {n_ctx: 1024, extra: {numa: true}, seed: 1}, perf: {seed: 2}}  # one line\n",
            id="flow notation",
        ),
        pytest.param(
            "llm:\n  tensor_split:  # shares\n  - 0.5\n  - 0.5 # half\n  # on\n  flash_attn: on\n",
            {"llm.tensor_split": [1.0, 0.0]},
            "llm:\n  tensor_split: [1.0, 0.0]  # shares\n  # on\n  flash_attn: on\n",
            id="a list in lines",
        ),
        pytest.param(
            "llm:\n  extra:\n    a: 1 # one\n    b: {c: 2}\n  n_ctx: 512\n",
            {"llm.extra": {"a": 1, "b": {"c": 3, "d e": "x: y"}, "f": None}},
            'llm:\n  extra:\n    a: 1 # one\n    b: {c: 3, d e: "x: y"}\n    f: null\n'
            "  n_ctx: 512\n",
            id="of a mapping only what differs",
        ),
        pytest.param(
            "llm:\n  engine: server # mine\n  start: s {port}\n  extra: # own\n"
            "    parallel: 1 # slots\n"
            "perf:\n",
            {"llm.extra.parallel": 4, "llm.extra.cache-type-k": "q8_0"},
            "llm:\n  engine: server # mine\n  start: s {port}\n  extra: # own\n"
            "    parallel: 4 # slots\n"
            "    cache-type-k: q8_0\nperf:\n",
            id="arguments of a server",
        ),
        pytest.param(
            "llm:\n  engine: server\n  start: s {port} # mine\nperf:\n",
            {"llm.extra.parallel": 4, "llm.extra.metrics": True},
            "llm:\n  engine: server\n  start: s {port} # mine\n"
            "  extra: {parallel: 4, metrics: true}\nperf:\n",
            id="the first arguments of a server",
        ),
        pytest.param(
            "llm:\n  extra: &mine\n    a: 1\n    b: 2\n  n_ctx: 512\n",
            {"llm.n_ctx": 600},
            "llm:\n  extra: &mine\n    a: 1\n    b: 2\n  n_ctx: 600\n",
            id="an anchor elsewhere",
        ),
        pytest.param(
            "llm:\n  extra:\n    a: 1\n    b: 2\n  n_ctx: &s 512\n  seed:\n    7\n  chat_format:\n",
            {"llm.extra": {"b": 2}, "llm.n_ctx": 600, "llm.seed": 8, "llm.chat_format": "chatml"},
            "llm:\n  extra: {b: 2}\n  n_ctx: 600\n  seed:\n    8\n  chat_format: chatml\n",
            id="a key that goes, an anchor, a value in its own line, a missing value",
        ),
        pytest.param(
            "\ufeffllm:\r\n  n_ctx: 512 # a\r\nperf:\r\n  seed: 1\r\n",
            {"llm.n_ctx": 64, "llm.n_batch": 32, "llm.max_tokens": 8, "perf.seed": 12345},
            "\ufeffllm:\r\n  n_ctx: 64  # a\r\n  n_batch: 32\r\n  max_tokens: 8\r\nperf:\r\n"
            "  seed: 12345\r\n",
            id="CRLF and a byte order mark",
        ),
        pytest.param(
            "llm:\n  model_path: >-\n    old\n    name\n\n  chat_format: 'a' # x\n",
            {"llm.model_path": "models/it's #1, \U0001f600.gguf", "llm.chat_format": "no"},
            'llm:\n  model_path: "models/it\'s #1, \U0001f600.gguf"\n\n  chat_format: "no" # x\n',
            id="text in several lines, quotes",
        ),
    ],
)
def test_the_rest_of_the_file_stays(
    tmp_path: Path, old: str, changes: dict[str, Any], new: str
) -> None:
    assert _written(tmp_path, old, changes) == new


def test_every_kind_of_text_is_read_back_as_it_was(tmp_path: Path) -> None:
    texts = [
        *("C:\\models\\a.gguf", "hf://a/b@c/d.gguf", "1e5", "01", "1:30", "null", "~", "yes", ""),
        *(
            "2026-01-01",
            " x ",
            "a\tb\nc",
            "- a",
            "\u00e9",
            "\u2028",
            "x #y",
            "a: b",
            "[",
            "\x00",
            "\x7f",
            "\x85",
        ),
    ]
    file = tmp_path / "config.yaml"
    for text in texts:
        _apply(file, {"llm.extra": {"value": text, "list": [text], text: 1}})
        extra = load_config(file, tmp_path, {}).config.llm.extra
        assert extra == {"value": text, "list": [text], text: 1}
        file.unlink()


def test_a_missing_file_is_created_and_needs_no_backup(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    applied = _apply(file, {"llm.n_batch": 512, "perf.strict": True})
    assert file.read_text() == "llm:\n  n_batch: 512\nperf:\n  strict: true\n"
    assert applied.backup is None
    assert applied.diff.startswith("--- /dev/null\n")
    assert list(tmp_path.iterdir()) == [file]


def test_settings_that_are_in_effect_already_are_not_written(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("llm: {load_timeout: 2m}\n")
    changes = {"llm.load_timeout": 120.0, "llm.n_batch": 1024}  # the default
    assert _apply(file, changes) == Applied("", None)
    assert list(tmp_path.iterdir()) == [file]


def test_a_backup_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    backups = []
    for size in (64, 128, 256, 512):
        backups.append(_apply(file, {"llm.n_batch": size}).backup)
    contents = [backup.read_text() for backup in backups[1:] if backup is not None]
    assert contents == [f"llm:\n  n_batch: {size}\n" for size in (64, 128, 256)]


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes there")
def test_mode_and_link_stay(tmp_path: Path) -> None:
    (tmp_path / "machines").mkdir()
    real, link = tmp_path / "machines" / "mine.yaml", tmp_path / "config.yaml"
    real.write_text("llm: {seed: 1}\n")
    real.chmod(0o640)
    link.symlink_to(real)
    applied = _apply(link, {"llm.seed": 2})
    assert link.is_symlink()
    assert real.read_text() == "llm: {seed: 2}\n"
    assert applied.backup is not None
    assert [stat.S_IMODE(file.stat().st_mode) for file in (real, applied.backup)] == [0o640, 0o640]


@pytest.mark.parametrize(
    ("environ", "overrides", "named"),
    [
        ({"LLMPERF_LLM__N_BATCH": "64"}, [], "environment LLMPERF_LLM__N_BATCH"),
        ({}, ["llm.n_batch=64"], "--llmperf-set llm.n_batch"),
        ({"LLMPERF_LLM__EXTRA": "{}"}, [], "environment LLMPERF_LLM__EXTRA"),
        ({"LLMPERF_LLM__EXTRA__NUMA": "1"}, [], "environment LLMPERF_LLM__EXTRA__NUMA"),
    ],
)
def test_an_overridden_key_is_refused(
    tmp_path: Path, environ: dict[str, str], overrides: list[str], named: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("llm: {seed: 1}\n")
    changes = {"llm.n_batch": 32, "llm.extra": {"numa": True}}
    message = _refusal(file, changes, environ=environ, overrides=overrides)
    assert f"is set by {named}. The file's value would have no effect" in message
    # Other keys may be overridden.
    assert _apply(file, {"llm.n_ctx": 4096}, environ=environ, overrides=overrides).diff


def test_a_file_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    absent = file_digest(file)
    file.write_text("llm: {seed: 1}\n")
    assert "changed since these settings were measured" in _refusal(
        file, {"llm.seed": 2}, digest=absent
    )
    digest = file_digest(file)

    def another_editor(_: str) -> None:
        file.write_text("llm: {seed: 3}\n")

    with pytest.raises(ConfigError, match="changed by another program meanwhile"):
        _apply(file, {"llm.seed": 2}, digest=digest, show=another_editor)
    assert file.read_text() == "llm: {seed: 3}\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("llm: {n_ctx: 512}\nllm: {}\n", {"llm.seed": 1}, "config.yaml:2: llm: duplicate key"),
        ("llm: &a {seed: 1}\nperf: *a\n", {"llm.seed": 2}, "aliases (*name) are not accepted"),
        ("llm: {}\n---\nperf: {}\n", {"llm.seed": 2}, "expected a single document"),
        ("llm:\n\tseed: 1\n", {"llm.seed": 2}, "config.yaml:2: a tab indents this line"),
        ("- llm\n", {"llm.seed": 2}, "expected a mapping with the sections"),
        ("llm: {n_ctx: x}\n", {"llm.seed": 2}, "config.yaml:1: llm.n_ctx: expected an integer"),
        ("llm: {}\n", {"llm.sed": 2}, "new value of llm.sed: unknown key; did you mean 'seed'?"),
        ("llm: {}\n", {"llm.n_batch": "x"}, "new value of llm.n_batch: expected an integer >= 1"),
        ("llm: {n_batch: 64}\n", {"llm.n_ubatch": 128}, "must not be larger than n_batch (64)"),
        ("llm: {}\n...\n", {"perf.seed": 1}, None),
        ("llm:\n  extra: &a\n    b: 1\n", {"llm.extra": {}}, "edit it by hand"),
    ],
)
def test_what_can_not_be_changed_is_refused_with_its_place(
    tmp_path: Path, text: str, changes: dict[str, Any], message: str | None
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    if message is None:
        _apply(file, changes)
    else:
        assert message in _refusal(file, changes)


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes there")
def test_a_read_only_file_is_refused_even_for_the_administrator(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("llm: {seed: 1}\n")
    file.chmod(0o444)
    assert "is read-only; make it writable" in _refusal(file, {"llm.seed": 2})


def test_unusable_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        _apply(tmp_path / "gone" / "config.yaml", {"llm.seed": 1})
    with pytest.raises(ConfigError, match="is a directory"):
        _apply(tmp_path, {"llm.seed": 1})
    if hasattr(os, "symlink"):
        (tmp_path / "config.yaml").symlink_to(tmp_path / "gone.yaml")
        with pytest.raises(ConfigError, match="no such file"):
            _apply(tmp_path / "config.yaml", {"llm.seed": 1})


def test_a_file_that_loads_differently_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_llmperf.config import edit

    file = tmp_path / "config.yaml"
    file.write_text("llm: {seed: 1}\n")
    real = edit.load_config

    def another_writer(path: Path, *others: Any) -> Any:
        path.write_text("llm: {seed: 5}\n")  # after our write and before our read
        return real(path, *others)

    monkeypatch.setattr(edit, "load_config", another_writer)
    assert "written, then undone" in _refusal(file, {"llm.seed": 2})
