"""``llama-bench -o json|jsonl``: real files of the tools build, see data/README.md."""

from __future__ import annotations

import json
from pathlib import Path

from import_runs import DATA, Command, changed, stored, value

ONE, TWO = DATA / "llama-bench-1.json", DATA / "llama-bench-2.json"
MATRIX = DATA / "llama-bench-matrix.jsonl"


def test_two_files_are_one_session_with_two_samples_of_their_repetitions(llmperf: Command) -> None:
    done = llmperf("import", ONE, TWO, "--dir", "base")
    assert done.status == 0, done.err
    (session,) = stored()
    assert list(session.tests) == ["llama-bench::pp32", "llama-bench::tg16"]
    rows = [json.loads(path.read_text()) for path in (ONE, TWO)]
    tg = [next(row["samples_ts"] for row in file if row["n_gen"]) for file in rows]
    runs = value(session, "llama-bench::tg16", "tokens_per_sec")
    assert [len(run) for run in runs] == [3, 3]
    assert all(
        abs(a / b - 1) < 1e-8
        for run, raw in zip(runs, tg, strict=True)
        for a, b in zip(run, raw, strict=True)
    )
    assert set(session.tests["llama-bench::pp32"].metrics) == {"prefill_tokens_per_sec"}
    assert session.session.processes == 2
    assert "2 samples" in done.words
    assert "a run is one sample of each metric, however many requests it made" in done.words


def test_a_session_says_where_it_comes_from_and_nothing_of_this_machine(llmperf: Command) -> None:
    llmperf("import", ONE, "--dir", "base")
    (session,) = stored()
    row = json.loads(ONE.read_text())[0]
    origin = session.imported
    assert origin is not None
    assert origin.tool == "llama-bench"
    assert row["build_commit"] in origin.version
    assert [file.name for file in origin.files] == ["llama-bench-1.json"]
    assert session.machine.strict == {
        "imported": "llama-bench",
        "backend": row["backends"],
        "cpu": row["cpu_info"],
    }
    assert session.machine.key.startswith("imported-llama-bench_")
    assert session.machine.info == {}
    assert session.model.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert session.recorded == max(row["test_time"] for row in json.loads(ONE.read_text()))
    assert session.config["n_threads"] == 2
    assert session.provenance.engine == "llama.cpp"
    assert session.provenance.commit is None


def test_points_of_a_matrix_are_tests_named_by_what_varies(llmperf: Command) -> None:
    assert llmperf("import", MATRIX, "--dir", "base").status == 0
    (session,) = stored()
    assert list(session.tests) == [
        "llama-bench::tg16@d32[n_threads=1]",
        "llama-bench::tg16@d32[n_threads=2]",
        "llama-bench::tg16[n_threads=1]",
        "llama-bench::tg16[n_threads=2]",
    ]
    assert session.config_of("llama-bench::tg16[n_threads=1]")["n_threads"] == 1
    assert "n_threads" not in session.config
    hashes = {name: test.workload for name, test in session.tests.items()}
    assert len(set(hashes.values())) == 2, "a depth is other work, a number of threads is not"


def test_prompt_and_generation_in_one_number_are_refused_by_name(
    llmperf: Command, tmp_path: Path
) -> None:
    alone = llmperf("import", DATA / "llama-bench-pg.json", "--dir", "base")
    assert alone.status == 2
    assert "only results of prompt and generation together (-pg)" in alone.err
    assert "run llama-bench with -p and -n" in alone.err
    rows = json.loads((DATA / "llama-bench-pg.json").read_text())
    combined = changed(ONE.name, tmp_path / "both.json", lambda data: [*data, *rows])
    done = llmperf("import", combined, "--dir", "base")
    assert "samples_ts of pp32+tg8 -> left out: prompt and generation in one number" in done.words
    assert len(stored()[0].tests) == 2


def test_every_field_is_taken_or_left_out_with_its_reason(llmperf: Command, tmp_path: Path) -> None:
    def add(rows: list[dict[str, object]]) -> None:
        rows[0]["avg_power_w"] = 3.5

    done = llmperf("import", changed(ONE.name, tmp_path / "new.json", add), "--dir", "base")
    assert "samples_ts of tg -> tokens_per_sec" in done.words
    assert "samples_ts of pp -> prefill_tokens_per_sec" in done.words
    assert "avg_ns, stddev_ns, avg_ts, stddev_ts, samples_ns -> left out: computed" in done.words
    assert "avg_power_w -> left out" in done.words
