"""Unusable files: each is named with its path, the line where possible, and a remedy."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.folder import MAX_BYTES
from pytest_llmperf.baselines.record import SCHEMA_VERSION, to_text


def complaint(store: Any) -> str:
    with pytest.raises(BaselineError) as caught:
        store.check_all()
    return str(caught.value)


def test_cut_off_json_is_named_with_its_line(store: Any, bad_file: Any) -> None:
    path = bad_file('{\n  "schema": 1,\n  "recorded":')
    message = complaint(store)
    assert message.startswith(f"{path}:3: not JSON:")
    assert f"git checkout -- {path}" in message


def test_merge_conflict_markers_are_named_with_their_line(
    store: Any, bad_file: Any, make_record: Any
) -> None:
    lines = to_text(make_record()).splitlines(keepends=True)
    path = bad_file("".join([*lines[:4], "<<<<<<< HEAD\n", *lines[4:]]))
    message = complaint(store)
    assert message.startswith(f"{path}:5: holds a merge-conflict marker (<<<<<<<)")
    assert f"git checkout --ours -- {path}" in message


@pytest.mark.parametrize("marker", ["=======", ">>>>>>> branch", "||||||| merged"])
def test_each_kind_of_conflict_marker_is_known(store: Any, bad_file: Any, marker: str) -> None:
    bad_file(f"{{}}\n{marker}\n")
    assert "merge-conflict marker" in complaint(store)


def test_a_conflict_marker_in_a_name_is_no_conflict(store: Any, make_record: Any) -> None:
    (test,) = make_record().tests.values()
    store.write(make_record(tests={"test_x[\n<<<<<<< HEAD\n=======\n]": test}))
    store.check_all()


def test_a_newer_schema_asks_for_an_upgrade(store: Any, bad_file: Any) -> None:
    path = bad_file(json.dumps({"schema": SCHEMA_VERSION + 1, "anything": "else"}))
    message = complaint(store)
    assert message.startswith(f"{path}: written by a newer plugin (schema {SCHEMA_VERSION + 1};")
    assert "pip install --upgrade pytest-llmperf" in message


def edit(text: str, *keys: Any, value: Any = None) -> str:
    data = json.loads(text)
    place = data
    for key in keys[:-1]:
        place = place[key if key != "*" else next(iter(place))]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (["recorded"], "yesterday", "recorded: expected a UTC time"),
        (["recorded"], "2026-1-2T3:4:5Z", "recorded: expected a UTC time"),
        (["session", "calibration"], 5, "session.calibration: expected an object, got 5"),
        (["provenance"], None, "provenance: missing"),
        (["provenance", "commit"], "HEAD", "provenance.commit: expected 40 hexadecimal digits"),
        (["provenance", "dirty"], "no", "provenance.dirty: expected true or false, got 'no'"),
        (["model", "sha256"], "abc", "model.sha256: expected 64 hexadecimal digits"),
        (["model", "size_bytes"], "big", "model.size_bytes: expected an integer"),
        (["config"], [], "config: expected an object"),
        (["machine", "strict"], [], "machine.strict: expected an object, got []"),
        (["session", "seed"], True, "session.seed: expected an integer"),
        (["session", "findings"], "busy", "session.findings: expected a list"),
        (["tests"], [], "tests: expected an object"),
        (["tests", "*", "workload"], 5, ".workload: expected a string"),
        (["tests", "*", "metrics", "first_token", "unit"], None, ".unit: missing"),
        (["tests", "*", "metrics", "first_token", "samples"], [], "at least one process"),
        (["tests", "*", "metrics", "first_token", "samples"], [[]], "at least one process"),
        (["tests", "*", "metrics", "first_token", "samples"], [[0.4, "x"]],
         ".samples[0][1]: expected a number, got 'x'"),
        (["tests", "*", "metrics", "first_token", "samples"], [[0.4], [-1]],
         ".samples[1][0]: expected a number from 1e-15 to 1e+18, got -1"),
        (["tests", "*", "metrics", "first_token", "samples"], [[0.4], [0]],
         ".samples[1][0]: expected a number from 1e-15 to 1e+18, got 0"),
        (["tests", "*", "metrics", "first_token", "samples"], [[1e300]], "to 1e+18, got 1e+300"),
        (["tests", "*", "metrics", "first_token", "unit"], "ms", ".unit: expected 's', got 'ms'"),
        (["schema"], "1", "schema: got '1'"),
        (["schema"], None, "schema: got None"),
    ],
)  # fmt: skip
def test_an_item_of_the_wrong_shape_is_named(
    store: Any, bad_file: Any, make_record: Any, keys: list[Any], value: Any, said: str
) -> None:
    path = bad_file(edit(to_text(make_record()), *keys, value=value))
    message = complaint(store)
    assert message.startswith(f"{path}: not a record of a session: ")
    assert said in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("[]", "schema: got None"),
        ('{"schema": 1, "seed": NaN}', "NaN is not a number"),
        ('{"schema": 1, "schema": 1}', "'schema' appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"schema": ' + "1" * 5000 + "}", "a whole number of 5000 digits is too large"),
        ('{"schema": 1,\n "seed": 1' + "0" * 400 + "}", ":2: not a record of a session: a whole"),
        ('{"schema": 1,\n "seed": 1e999}', ":2: not a record of a session: 1e999 is too large"),
        (b'{\n"schema": "\xff"}', ":2: not UTF-8 text"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 text"),
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
)
def test_other_content_is_refused(
    store: Any, bad_file: Any, content: str | bytes, said: str
) -> None:
    path = bad_file(content)
    message = complaint(store)
    assert str(path) in message
    assert said in message


def test_a_huge_file_is_refused_without_reading_it(store: Any, bad_file: Any) -> None:
    path = bad_file("")
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    assert complaint(store).startswith(f"{path}: 64 MiB long")


def test_a_folder_named_like_a_record_is_refused(store: Any, bad_file: Any) -> None:
    path = bad_file("").with_name("folder.json")
    path.parent.joinpath("20260101T000000Z_bad.json").unlink()
    path.mkdir()
    assert complaint(store).startswith(f"{path}: a folder where a record file is expected")


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_a_pipe_named_like_a_record_does_not_hang(store: Any, bad_file: Any) -> None:
    path = bad_file("").with_name("pipe.json")
    path.parent.joinpath("20260101T000000Z_bad.json").unlink()
    os.mkfifo(path)
    assert complaint(store).startswith(f"{path}: not a regular file")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("target", ["nowhere.json", "link.json"])
def test_a_link_that_leads_nowhere_is_refused(store: Any, bad_file: Any, target: str) -> None:
    path = bad_file("").with_name("link.json")
    path.parent.joinpath("20260101T000000Z_bad.json").unlink()
    path.symlink_to(target)
    assert complaint(store).startswith(f"{path}: a broken symbolic link")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_a_record_is_read(store: Any, make_record: Any, tmp_path: Path) -> None:
    written = store.write(make_record())
    target = written.rename(tmp_path / "elsewhere.json")
    written.symlink_to(target)
    assert [s.record for s in store.read_machine(make_record().machine.key)]


def test_every_bad_file_is_listed_at_once(store: Any, bad_file: Any) -> None:
    first, second = bad_file("", "a.json"), bad_file("{", "b.json")
    message = complaint(store)
    assert message.startswith("2 baseline files cannot be used:")
    assert str(first) in message
    assert str(second) in message


def test_hidden_files_and_other_kinds_are_left_alone(store: Any, bad_file: Any) -> None:
    bad_file("x", ".hidden.json")
    bad_file("x", "README.md")
    store.check_all()


def test_a_record_in_another_machines_folder_is_refused(store: Any, make_record: Any) -> None:
    written = store.write(make_record())
    other_folder = store.root / "other-4c_cpu"
    other_folder.mkdir()
    moved = written.rename(other_folder / written.name)
    message = complaint(store)
    assert message.startswith(f"{moved}: a record of machine xeon-sapphire-rapids-2c_cpu")


def test_a_record_outside_a_machines_folder_is_refused(store: Any, bad_file: Any) -> None:
    path = bad_file("{}")
    moved = path.rename(store.root / path.name)
    assert complaint(store).startswith(f"{moved}: a record outside a machine's folder")


def test_a_file_in_the_folders_place_is_named(store: Any) -> None:
    store.root.write_text("")
    assert complaint(store).startswith(f"{store.root}: the baselines' folder is a file")


def test_a_path_with_spaces_is_quoted_in_the_remedy(store: Any, bad_file: Any) -> None:
    path = bad_file("", "two words.json")
    assert f"git checkout -- '{path}'" in complaint(store)


def test_the_remedy_also_helps_where_the_committed_file_is_the_bad_one(
    store: Any, bad_file: Any
) -> None:
    bad_file("{")
    assert "if there is none, or it is broken too, delete the file and record again" in complaint(
        store
    )
