from __future__ import annotations

import os
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.yaml_file import read_document, read_value


def _message(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        read_document(path, "config.yaml")
    return str(caught.value)


def test_every_key_keeps_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# top\nllm:\n  n_ctx: 1\n\n  tensor_split:\n  - 0.5\n  - 0.5\n")
    lines = read_document(path, "config.yaml").lines
    assert lines == {
        ("llm",): 2,
        ("llm", "n_ctx"): 3,
        ("llm", "tensor_split"): 5,
        ("llm", "tensor_split", 0): 6,
        ("llm", "tensor_split", 1): 7,
    }


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfllm: {n_ctx: 1}\n")
    assert read_document(path, "config.yaml").value == {"llm": {"n_ctx": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "config.yaml: it is empty; write an llm: or a perf: section"),
        ("# only words\n", "config.yaml: it is empty; write an llm: or a perf: section"),
        ("- a\n", "config.yaml:1: expected a mapping with the sections llm: and perf:, got a list"),
        ("hello\n", "config.yaml:1: expected a mapping with the sections llm: and perf:, got a si"),
        ("llm:\n\tn_ctx: 3\n", "config.yaml:2: a tab indents this line; YAML takes spaces only"),
        ("llm: {n_ctx: 3\n", "config.yaml:2: not valid YAML (while parsing a flow mapping)"),
        ("a: 1\n---\nb: 2\n", "config.yaml:2: not valid YAML"),
        ("llm:\n  a: \x01\n", "config.yaml:2: the character U+0001 is not allowed in YAML"),
        ("llm:\n  a: 1\n  a: 2\n", "config.yaml:3: llm.a: duplicate key, first on line 2"),
        ("1: 2\n", "config.yaml:1: a key must be plain text"),
        ("? [a]\n: 3\n", "config.yaml:1: a key must be plain text"),
        ("2020-99-99: 3\n", "config.yaml:1: this value cannot be read"),
        ("a:\n  b: 2020-99-99\n", "config.yaml:2: this value cannot be read"),
        ("a:\n  <<: {b: 1}\n", "config.yaml:2: YAML merge keys (<<) are not accepted here"),
        ("a: !!python/name:os.system x\n", "config.yaml:1: not valid YAML"),
        ("a: !mine {}\n", "config.yaml:1: the tag !mine is not accepted here"),
        (b"llm:\n  a: \xff\n", "config.yaml:2: not UTF-8 (byte 0xff); save the file as UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_line_and_reason(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    assert message in _message(tmp_path, content)


def test_aliases_that_would_expand_to_gigabytes_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert "config.yaml:2: YAML aliases (*name) are not accepted" in _message(
        tmp_path, "\n".join(lines)
    )


def test_deep_nesting_is_refused_before_it_exhausts_the_stack(tmp_path: Path) -> None:
    assert "nested more than 32 levels deep" in _message(tmp_path, "a: " + "[" * 100_000)


def test_a_huge_file_is_refused_unparsed(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in _message(tmp_path, b"a: 1\n" * 300_000)


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="this Python reads it")
def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    message = _message(tmp_path, f"a: 1\nb: {'9' * 5000}\n")
    assert message.startswith("config.yaml:2: this value cannot be read")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory; expected a YAML file"):
        read_document(tmp_path, "config.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_document(tmp_path / "pipe", "pipe")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1000", 1000),
        ("1_000", 1000),
        ("-1", -1),
        ("0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1.", 1.0),
        ("01.5", 1.5),
        (".5", 0.5),
        ("1e6", 1e6),
        ("5e-2", 0.05),
        ("true", True),
        ("yes", "yes"),
        ("Off", "Off"),
        ("null", None),
        ("'01000'", "01000"),
        ('"1:30"', "1:30"),
        ("12:99", "12:99"),
        ("a:b", "a:b"),
    ],
)
def test_a_plain_value_is_what_its_writer_meant(text: str, value: object) -> None:
    read = read_value(text, "--llmperf-set llm.n_ctx", (0, 0))
    assert (read, isinstance(read, bool)) == (value, isinstance(value, bool))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("01000", "01000 begins with a zero,*write 1000, or put quotes around it"),
        ("-017", "*write -17, or put quotes"),
        ("08", "*write 8, or put quotes"),
        ("00", "*write 0, or put quotes"),
        ("!!int '010'", "010 begins with a zero*"),
        ("1:30", "1:30 is a number in base 60 to some*such as 90s*"),
        ("1:30:00.5", "1:30:00.5 is a number in base 60*"),
        ("[1, 02]", "02 begins with a zero*"),
    ],
)
def test_a_number_that_yaml_versions_read_differently_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    message = _message(tmp_path, f"llm:\n  n_ctx: {text}\n")
    assert fnmatch(message, f"config.yaml:2: {says}*")
    with pytest.raises(ConfigError) as caught:
        read_value(text, "--llmperf-set llm.n_ctx", (0, 0))
    assert fnmatch(str(caught.value), f"--llmperf-set llm.n_ctx: {says}*")
