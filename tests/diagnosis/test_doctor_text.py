"""The report of ``llmperf doctor``, at the widths of terminals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.config.load import LoadedConfig, load_config
from pytest_llmperf.diagnosis.registry import examine
from pytest_llmperf.diagnosis.situation import Situation, WorkloadSize
from pytest_llmperf.doctor.bench import Measured
from pytest_llmperf.doctor.checkup import Checkup, CheckupFinding
from pytest_llmperf.doctor.gain import RemedyChange, RemedyGain
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.graphics import GraphicsCard
from pytest_llmperf.report.doctor import as_json, render

Load = Callable[..., Situation]

FASTER = RemedyChange(-0.35, -0.385, -0.32)
SAME = RemedyChange(0.001, -0.01, 0.012)
EARLY = RemedyChange(-0.3, float("-inf"), float("inf"))


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    (tmp_path / "config.yaml").write_text("llm:\n  n_ubatch: 32\n  n_threads: 9\n")
    return load_config(None, tmp_path, {})


@pytest.fixture
def checkup(load: Load) -> Checkup:
    """A machine where much is wrong."""
    situation = load(n_ubatch=32, n_threads=9, use=WorkloadSize(1500, 64, 1564, is_users=True))
    card = GraphicsCard("nvidia", "NVIDIA GeForce RTX 4090", "NVML")
    busy = FitnessFinding("busy_cores", "invalid", "process 4242 (\x1b[2Jstress) used 1.9 cores")
    hardware = replace(situation.hardware, cards=(card,), usable_cpus=4)
    situation = replace(situation, hardware=hardware, findings=(busy,))
    causes = {f.cause.name: (f.cause, f.evidence) for f in examine(situation)}
    gain = RemedyGain("gain", {"tokens_per_sec": FASTER, "first_token": SAME}, 5)
    return Checkup(
        situation=situation,
        measured=Measured({"tokens_per_sec": ((6.5, 6.6), (6.4, 6.5))}, (busy,), "", 2),
        findings=[
            CheckupFinding(*causes["cpu_only_build"]),
            CheckupFinding(*causes["threads_above_cores"], gain),
            CheckupFinding(*causes["busy_cores"]),
        ],
        without_gain=[
            CheckupFinding(
                *causes["batch_small"], RemedyGain("no gain", {"tokens_per_sec": SAME}, 4)
            ),
        ],
        not_tried=[
            CheckupFinding(
                *causes["flash_attention_off"],
                RemedyGain("undecided", {"tokens_per_sec": EARLY}, 1, "the time budget ran out"),
            ),
        ],
        together=gain,
        notes=["the time budget ran out before everything was tried: raise --budget"],
    )


def test_an_interrupted_checkup_does_not_sound_like_a_finished_one(
    checkup: Checkup, loaded: LoadedConfig
) -> None:
    stopped = replace(checkup, interrupted=True)
    assert render(stopped, loaded, 80)[0] == (
        "interrupted before it was finished: 3 causes found so far"
    )
    stopped = replace(checkup, interrupted=True, findings=[], not_tried=[])
    assert render(stopped, loaded, 80)[0] == (
        "interrupted before it was finished: no cause found so far"
    )


def test_what_all_remedies_bring_together_is_reported_where_it_is_not_decided_too(
    checkup: Checkup, loaded: LoadedConfig
) -> None:
    early = RemedyGain("undecided", {"tokens_per_sec": EARLY}, 1, "the time budget ran out")
    text = "\n".join(render(replace(checkup, together=early), loaded, 200))
    assert (
        "all helpful changes together: not decided, the time budget ran out: decode 25.9% faster "
        "in 1 pair" in text
    )


def test_what_a_change_saves_and_what_it_was_tried_beside_is_reported(
    checkup: Checkup, loaded: LoadedConfig, load: Load
) -> None:
    situation = load(use_mmap=False, use=WorkloadSize(8, 8, 16))
    causes = {f.cause.name: (f.cause, f.evidence) for f in examine(situation)}
    copied = CheckupFinding(*causes["not_mapped"])
    assert copied.is_kept_untried
    gain = RemedyGain(
        "no gain", {"tokens_per_sec": SAME}, 4, beside={"n_threads": 2}, start_seconds=(0.2, 0.5)
    )
    tried = replace(checkup, findings=[replace(copied, gain=gain)])
    text = " ".join("\n".join(render(tried, loaded, 100)).split())
    assert "saves 92." in text
    assert "in 4 pairs of processes, n_threads: 2 on both sides; starts in 0.2 s instead" in text
    (finding,) = as_json(tried, loaded)["findings"]
    assert finding["saves"] == copied.evidence.saves
    assert finding["gain"]["beside"] == {"n_threads": 2}
    assert finding["gain"]["start_seconds"] == [0.2, 0.5]


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_wider_than_the_terminal_but_a_command(
    checkup: Checkup, loaded: LoadedConfig, width: int
) -> None:
    wide = [line for line in render(checkup, loaded, width) if len(line) > width]
    assert [line.strip().split()[0] for line in wide] == ['CMAKE_ARGS="-DGGML_CUDA=on"']


def test_the_page_shows_the_same_lines(checkup: Checkup, loaded: LoadedConfig) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "doctor.md").read_text(encoding="utf-8")
    text = "\n".join(render(checkup, loaded, 100))
    for phrase in (
        "\nmachine  ",
        "\nspeed    decode ",
        "\n   seen     ",
        "\n   change   n_threads: ",
        "\n   measured decode ",
        "\nmay help, not decided, the time budget ran out: decode ",
    ):
        assert phrase in text
        assert phrase in page


def test_each_finding_has_what_was_seen_the_change_and_what_it_brings(
    checkup: Checkup, loaded: LoadedConfig
) -> None:
    lines = render(checkup, loaded, 200)
    assert lines[0] == "3 causes found, the costliest first"
    text = "\n".join(lines)
    assert "speed    decode 6.50 [" in text
    assert (
        "2. more threads than CPUs\n"
        "   seen     n_threads 9 on 4 usable cores: threads that wait for each other are very "
        "slow\n"
        "   change   n_threads: 4 (under llm; now config.yaml:3)\n"
        "   measured decode 29.5% faster [27.4% to 32.0%], first token "
        "0.1% slower [1.0% faster to 1.2% slower] in 5 pairs of processes\n"
    ) in text
    assert "   change   close process 4242 (\\x1b[2Jstress)\n" in text
    assert "all helpful changes together: decode 29.5% faster" in text
    assert (
        "tried n_batch: 512, n_ubatch: 512: no measurable effect; decode 0.1% slower "
        "[1.0% faster to 1.2% slower]"
    ) in text
    assert (
        "may help, not decided, the time budget ran out: decode 25.9% faster in 1 pair of processes"
        in text
    )
    assert "note: the time budget ran out" in text
    (open_,) = checkup.not_tried
    slower = RemedyGain("undecided", {"tokens_per_sec": RemedyChange(0.48, -9.0, 9.0)}, 3, "why")
    seen = render(replace(checkup, not_tried=[replace(open_, gain=slower)]), loaded, 200)
    assert any(line.startswith("tried, not decided, why: decode 61.6% slower") for line in seen)
    assert not any("may help" in line for line in seen)
    undecided = render(replace(checkup, findings=[]), loaded, 200)[0]
    assert undecided == "no cause is certain; it is undecided whether 1 change helps"


def test_a_load_that_failed_is_reported_first_and_the_engines_words_last(
    load: Load, loaded: LoadedConfig
) -> None:
    situation = load(n_ctx=50_000_000)
    findings = [
        CheckupFinding(f.cause, f.evidence) for f in examine(situation) if f.cause.theme != "GPU"
    ]
    checkup = Checkup(situation=situation, findings=findings, error=situation.load_error)
    lines = render(checkup, loaded, 80)
    assert lines[0] == "the engine can't be loaded: 1 cause found"
    assert lines[-1].startswith("  | llama_init_from_model: failed to initialize the context")
    change = next(place for place, line in enumerate(lines) if "   change" in line)
    assert change < lines.index("last lines of the engine's log:")


def test_json_holds_all_of_it_and_no_number_that_is_none(
    checkup: Checkup, loaded: LoadedConfig
) -> None:
    data = as_json(checkup, loaded)
    assert [finding["name"] for finding in data["findings"]] == [
        "cpu_only_build",
        "threads_above_cores",
        "busy_cores",
    ]
    gain = data["findings"][1]["gain"]["changes"]["tokens_per_sec"]
    assert gain == pytest.approx({"speedup": 1.419, "low": 1.377, "high": 1.470}, abs=0.001)
    (open_,) = data["not_tried"]
    assert open_["gain"]["changes"]["tokens_per_sec"]["low"] is None
    assert data["machine"]["gpus"] == ["NVIDIA GeForce RTX 4090"]
