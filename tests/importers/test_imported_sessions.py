"""Imported sessions: never stored twice, compared, drawn, and never a test's baseline."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from import_runs import DATA, Command, changed, stored

from pytest_llmperf.baselines.match import find_baseline
from pytest_llmperf.baselines.store import BaselineStore

ONE, TWO = DATA / "llama-bench-1.json", DATA / "llama-bench-2.json"
VLLM = (DATA / "vllm-single-1.json", DATA / "vllm-single-2.json")


def slower(name: str, path: Path, factor: float) -> Path:
    """Write a copy of a llama-bench file with another time, and rates divided by a factor."""

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["samples_ts"] = [rate / factor for rate in row["samples_ts"]]
            row["test_time"] = "2030-01-01T00:00:00Z"

    return changed(name, path, change)


def test_the_same_file_is_recognised_and_not_stored_twice(llmperf: Command, tmp_path: Path) -> None:
    llmperf("import", ONE, "--dir", "base")
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(json.loads(ONE.read_text())))  # the same runs in other bytes
    for file in (ONE, copy):
        again = llmperf("import", file, "--dir", "base")
        assert again.status == 0
        assert "all imported before, in base/imported-llama-bench_" in again.words
        assert "nothing is new, so nothing was stored" in again.words
    twice = llmperf("import", TWO, TWO, "--dir", "base")
    assert "all imported before, in llama-bench-2.json of this import" in twice.words
    assert [record.session.processes for record in stored()] == [1, 1]


def test_a_dry_run_stores_nothing(llmperf: Command) -> None:
    done = llmperf("import", ONE, "--dir", "base", "--dry-run")
    assert done.status == 0
    assert "not stored; it would be in base/imported-llama-bench_" in done.words
    assert not Path("base").exists()


def test_compare_judges_imported_sessions_and_says_where_they_come_from(
    llmperf: Command, tmp_path: Path
) -> None:
    for number in range(1, 6):
        file = slower(ONE.name, tmp_path / f"base{number}.json", 1 + number / 1000)
        llmperf("import", file, "--dir", "base")
    files = [slower(ONE.name, tmp_path / f"new{n}.json", 2 + n / 1000) for n in (1, 2, 3)]
    llmperf("import", *files, "--dir", "new")
    done = llmperf("compare", "base", "new")
    assert done.status == 1, done.err
    for metric in ("tokens/s", "prefill"):
        assert any(
            line.startswith("regressed") and metric in line for line in done.out.splitlines()
        )
    assert "time per token" not in done.out, "one metric of each quantity is judged"
    words = done.words
    assert "imported from llama-bench build" in words
    assert "base1.json (SHA-256" in words
    assert "new3.json (SHA-256" in words
    assert "2 more imported sessions of the base" in words
    assert "each run of an imported session is one sample" in words
    assert "--llmperf-against" not in words, "what llama-bench measured can't be measured again"
    assert llmperf("compare", "base", "new", "--format", "json").status == 1


def test_an_unknown_machine_is_no_machine_to_judge_on(llmperf: Command) -> None:
    for folder, file in zip(("base", "new"), VLLM, strict=True):
        done = llmperf("import", file, "--dir", folder)
        assert "the file does not name the machine" in done.words
    refused = llmperf("compare", "base", "new")
    assert refused.status == 2
    assert "machine: base unknown (vllm-single-1.json" in refused.err
    assert llmperf("compare", "base", "new", "--any").status == 0
    for folder, file in zip(("named", "named2"), VLLM, strict=True):
        llmperf("import", file, "--dir", folder, "--machine", "8x H100")
    judged = llmperf("compare", "named", "named2")
    assert judged.status == 0, judged.err
    assert "inconclusive" in judged.out
    assert stored(Path("named"))[0].machine.key == "imported-vllm_8x-h100"


def test_a_model_that_the_file_does_not_name_can_be_named(llmperf: Command, tmp_path: Path) -> None:
    def nameless(data: dict[str, Any]) -> None:
        data["model_id"] = ""

    file = changed(VLLM[0].name, tmp_path / "nameless.json", nameless)
    done = llmperf("import", file, "--dir", "base", "--dry-run")
    assert "the file does not name the model" in done.words
    llmperf("import", file, "--dir", "base", "--model", "Qwen2.5-7B")
    assert stored()[0].model.name == "Qwen2.5-7B"
    assert llmperf("import", file, "--model", "a\x1bb").status == 2
    assert llmperf("import", file, "--recorded", "soon").status == 2


def test_an_imported_session_is_never_a_baseline_of_a_test(llmperf: Command) -> None:
    llmperf("import", ONE, "--dir", "base")
    (session,) = stored()
    store = BaselineStore(Path("base"))
    baseline = find_baseline(store, session.machine, session.model)
    assert (baseline.records, baseline.mismatched, baseline.nearest) == ((), (), None)
    # The same record counts if this plugin measured it.
    own = replace(session, imported=None, recorded="2026-11-01T00:00:00Z")
    store.write(own)
    assert len(find_baseline(store, session.machine, session.model).records) == 1


def test_history_draws_imported_sessions(llmperf: Command, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    for number in range(1, 4):
        file = slower(ONE.name, tmp_path / f"{number}.json", 1 + number / 100)
        assert llmperf("import", file, "--dir", "perf_baselines").status == 0
    done = llmperf("history")
    assert done.status == 0, done.err
    assert "imported-llama-bench_" in done.out
    assert "llama-bench::tg16" in done.out
    assert "imported from llama-bench: 16 tokens decoded" in done.words
    assert "3 sessions" in done.words
    shown = llmperf("baseline", "show")
    assert shown.status == 0, shown.err
    assert "llama-bench::tg16" in shown.out


def test_report_shows_imported_sessions(llmperf: Command) -> None:
    llmperf("import", ONE, TWO, "--dir", "base")
    (file,) = Path("base").rglob("*.json")
    (session,) = stored()
    page = llmperf("report", file, "--markdown")
    assert page.status == 0, page.err
    assert "imported-llama-bench_" in page.out
    assert "llama-bench::tg16" in page.out
    bmf = llmperf("report", file, "--bmf")
    assert bmf.status == 0, bmf.err
    data = json.loads(bmf.out)
    assert data.keys() == {"llama-bench::pp32", "llama-bench::tg16"}
    runs = session.tests["llama-bench::tg16"].metrics["tokens_per_sec"].samples
    low, high = sorted(median(run) for run in runs)
    assert low <= data["llama-bench::tg16"]["tokens_per_sec"]["value"] <= high


def test_requests_at_once_are_never_compared_with_single_ones(llmperf: Command) -> None:
    named = ("--machine", "box")
    llmperf("import", VLLM[0], "--dir", "base", *named)
    llmperf("import", DATA / "vllm-concurrency8.json", "--dir", "new", *named)
    done = llmperf("compare", "base", "new")
    assert "vllm::serve[concurrency=8,requests=16]" in done.words
    assert "regressed" not in done.out
    assert "slower" not in done.out


def test_a_runs_requests_are_never_samples(llmperf: Command) -> None:
    llmperf("import", VLLM[0], "--dir", "base")
    (session,) = stored()
    sizes = {len(m.samples) for test in session.tests.values() for m in test.metrics.values()}
    assert sizes == {1}, "eight requests of one run are one sample"


def test_beside_one_machine_of_ones_own_imported_ones_need_a_name(
    llmperf: Command, tmp_path: Path
) -> None:
    for folder, factor in (("base", 1.0), ("new", 1.001)):
        file = slower(ONE.name, tmp_path / f"{folder}.json", factor)
        llmperf("import", file, "--dir", folder)
        (session,) = stored(Path(folder))
        key = "imported-llama-bench_cpu-amd-epyc"
        machine = replace(session.machine, key="amd-2c_cpu", strict={"cpu": "AMD"})
        own = replace(session, imported=None, machine=machine)
        BaselineStore(Path(folder)).write(own)
    assert llmperf("baseline", "accept", "--reason", "why", "--dir", "base").status == 0
    assert len(list(Path("base/amd-2c_cpu/decisions").iterdir())) == 1
    done = llmperf("compare", "base", "new")
    assert done.status == 0, done.err
    assert "amd-2c_cpu" in done.out
    assert f"on {key}, which are not compared" in done.words
    named = llmperf("compare", "base", "new", "--machine", key)
    assert "each run of an imported session is one sample" in named.words
