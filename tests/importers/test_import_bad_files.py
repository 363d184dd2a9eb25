"""Files that can't be imported: errors name problem, place and fix; nothing is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from import_runs import DATA, Command, changed, stored

GOOD = DATA / "vllm-single-1.json"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"model,tok/s\na,1\n", "not JSON: expecting value (line 1, column 1)"),
        (b'{"a": 1', "truncated: the JSON ends in the middle of a value"),
        (b'{"a": "te', "truncated: the JSON ends in the middle of a value"),
        (b'{"a": 1}\n{"a": 2', "truncated: the JSON ends in the middle of a value (line 2"),
        (b'{"a": 1}\n{"a": oops}\n', "not JSON: expecting value (line 2, column 7)"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number in it has thousands of digits"),
        (b"{}", "not a result file of any known tool"),
        (b"[]", "not a result file of any known tool"),
        (b"7", "not a result file of any known tool"),
        (b'[{"build_commit": 1}]', "not a result file of any known tool"),
    ],
)
def test_content_that_is_no_result(
    llmperf: Command, tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    done = llmperf("import", file, "--dir", "base")
    assert done.status == 2
    assert f"{file}: {problem}" in done.err
    assert "nothing was stored" in done.err
    assert not Path("base").exists()


def test_an_unknown_tool_names_what_was_looked_for(llmperf: Command, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"throughput": 5}')
    done = llmperf("import", file, "--dir", "base")
    for tool in ("llama-bench", "vllm", "sglang", "guidellm", "aiperf", "pytest-benchmark"):
        assert f"    {tool}: " in done.err
    named = llmperf("import", GOOD, "--dir", "base", "--tool", "llama-bench")
    assert named.status == 2
    assert "not a result file of llama-bench; recognised are:" in named.err
    assert "objects with build_commit, n_prompt, n_gen and avg_ts" in named.err


@pytest.mark.parametrize(
    ("name", "field", "bad", "problem"),
    [
        ("vllm-single-1.json", "median_ttft_ms", -1.0, "expected a number of 0 or more, got -1.0"),
        ("vllm-single-1.json", "median_ttft_ms", float("nan"), "got nan"),
        ("vllm-single-1.json", "median_ttft_ms", float("inf"), "got inf"),
        ("vllm-single-1.json", "median_ttft_ms", "31 ms", "got '31 ms'"),
        ("vllm-single-1.json", "median_ttft_ms", True, "got True"),
        ("vllm-single-1.json", "completed", 2.5, "expected a whole number of 0 or more, got 2.5"),
        ("vllm-single-1.json", "completed", 0, "no request of the run completed"),
        ("vllm-single-1.json", "total_output_tokens", None, "total_output_tokens is missing"),
        ("vllm-single-1.json", "date", "yesterday", "expected a date and time, got 'yesterday'"),
        ("vllm-single-1.json", "itls", [[1], 2], "itls[1]: expected a list, got 2"),
        ("vllm-single-1.json", "itls", [[-1.0]], "itls[0][0]: expected a number of 0 or more"),
        ("vllm-single-1.json", "total_input_sequences", 4, "a benchmark of embeddings"),
        ("llama-bench-1.json", "samples_ts", [], "at least one repetition"),
        ("llama-bench-1.json", "samples_ts", [80.0, 0.0], "expected numbers above 0"),
        ("llama-bench-1.json", "samples_ts", None, "samples_ts is missing, so this"),
        ("llama-bench-1.json", "samples_ts", [float("nan")], "samples_ts[0]: expected a number"),
        ("llama-bench-1.json", "model_filename", ["x"], "expected a text, got ['x']"),
        ("pytest-benchmark-1.json", "benchmarks", [], "it holds no benchmark"),
        ("pytest-benchmark-1.json", "benchmarks", [3], "benchmarks[0]: expected an object, got 3"),
        ("pytest-benchmark-1.json", "machine_info", 3, "machine_info: expected an object, got 3"),
    ],
)
def test_a_value_that_can_not_be_is_named_with_its_place(
    llmperf: Command, tmp_path: Path, name: str, field: str, bad: Any, problem: str
) -> None:
    def spoil(data: Any) -> None:
        (data[0] if isinstance(data, list) else data)[field] = bad

    done = llmperf("import", changed(name, tmp_path / "bad.json", spoil), "--dir", "base")
    assert done.status == 2
    assert problem in done.err
    assert not Path("base").exists()


def test_nothing_is_stored_when_one_file_is_refused_unless_told_to_go_on(
    llmperf: Command, tmp_path: Path
) -> None:
    bad, missing = tmp_path / "bad.json", tmp_path / "missing.json"
    bad.write_text("{}")
    refused = llmperf("import", bad, GOOD, missing, "--dir", "base")
    assert refused.status == 2
    assert f"{missing}: can't be read: no such file or directory" in refused.err
    assert "nothing was stored; to import the other files anyway: --keep-going" in refused.err
    assert "not stored; it would be in base/imported-vllm_unknown-machine" in refused.words
    assert not Path("base").exists()
    done = llmperf("import", bad, GOOD, missing, "--dir", "base", "--keep-going")
    assert done.status == 2
    assert "2 of the files were refused" in done.err
    assert len(stored()) == 1


def test_a_folder_and_a_file_that_is_too_long_are_refused(
    llmperf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_llmperf.importers import read_file

    assert "a folder; a result file is expected" in llmperf("import", tmp_path).err
    monkeypatch.setattr(read_file, "MAX_BYTES", 1 << 20)
    file = tmp_path / "long.json"
    file.write_bytes(b" " * (3 << 20))
    done = llmperf("import", file, "--dir", "base")
    assert "3 MiB long; up to 1 MiB are read" in done.err
    assert "without --save-detailed" in done.err


def test_hostile_names_are_stored_and_shown_as_plain_text(llmperf: Command, tmp_path: Path) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["model_id"] = "/home/somebody/models/../\x1b[31mevil\n" + "x" * 5000
        data["backend"] = "../../etc"

    file = changed("vllm-single-1.json", tmp_path / "na\x1bme.json", rename)
    done = llmperf("import", file, "--dir", "base", "--machine", "../../tmp/box")
    assert done.status == 0, done.err
    assert "\x1b" not in done.out
    (path,) = Path("base").rglob("*.json")
    assert path.parent.name == "imported-vllm_.tmp-box" or ".." not in path.parent.name
    (session,) = stored()
    assert "somebody" not in json.dumps(session.model.name)
    assert len(session.model.name) <= 200
    assert session.imported is not None
    assert session.imported.files[0].name == r"na\x1bme.json"


def test_texts_of_requests_are_dropped_while_a_file_is_read(tmp_path: Path) -> None:
    from pytest_llmperf.importers.read_file import read_result_file

    (vllm,) = read_result_file(GOOD).documents
    assert "generated_texts" not in vllm
    assert len(vllm["itls"]) == 8
    (guidellm,) = read_result_file(DATA / "guidellm-synchronous.json").documents
    assert guidellm["benchmarks"][0]["requests"]["successful"] == [None] * 4


def test_a_value_that_no_session_can_hold_refuses_its_file_only(
    llmperf: Command, tmp_path: Path
) -> None:
    """A date in the year 1, or a NaN as a setting; other files are still imported."""

    def in_the_year_1(data: dict[str, Any]) -> None:
        data["date"] = "00010101-000000"

    def no_number(rows: list[dict[str, Any]]) -> None:
        rows[0]["n_threads"] = float("nan")

    old = changed("vllm-single-1.json", tmp_path / "old.json", in_the_year_1)
    bad = changed("llama-bench-1.json", tmp_path / "bad.json", no_number)
    done = llmperf("import", old, bad, GOOD, "--dir", "base", "--keep-going")
    assert done.status == 2
    assert f"{old}: can't be stored as a session: recorded: expected a UTC time" in done.err
    assert f"{bad}: can't be stored as a session: tests" in done.err
    assert "nan cannot be stored" in done.err
    assert len(stored()) == 1


def test_no_session_is_stored_that_could_not_be_read_again(
    llmperf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a session would stop every later session that reads the folder."""
    from pytest_llmperf.baselines import record

    monkeypatch.setattr(record, "MAX_BYTES", 1 << 20)

    def repeat(rows: list[dict[str, Any]]) -> None:
        rows[0]["samples_ts"] = [80.0] * 250_000

    done = llmperf(
        "import", changed("llama-bench-1.json", tmp_path / "x.json", repeat), "--dir", "b"
    )
    assert done.status == 2
    assert "MiB of text; only 1 MiB are read" in done.err
    assert not Path("b").exists()


def test_a_repeated_key_among_very_many_is_found_at_once_and_quoted_in_short() -> None:
    from pytest_llmperf.baselines.json_text import repeated_key

    long = "k" * 100_000
    pairs = [*((f"k{number}", 1) for number in range(300_000)), (long, 1), (long, 2)]
    assert repeated_key(pairs) == repr("k" * 60 + "...")
