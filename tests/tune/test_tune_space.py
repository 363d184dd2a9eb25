"""The space of a search: declared and default values, valid combinations, neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_llama

import pytest_llmperf as perf
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.tune.space import Demand, Space, build_space

BAD = {"n_threads": 8, "n_batch": 32, "n_ubatch": 32, "flash_attn": False, "type_v": "f16"}


def space(**today: Any) -> Space:
    choices = {
        "n_threads": (1, 2, 8),
        "n_batch": (32, 128, 512),
        "n_ubatch": (32, 128, 512),
        "flash_attn": (False, True),
        "type_v": ("f16", "q8_0"),
    }
    return Space(choices, {**BAD, **today}, usable_cpus=2)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def built(tune: str, cpus: int = 6, **llm: Any) -> Space:
    Path("config.yaml").write_text(f"tune: {tune}\n")
    setup = perf.configuration(llm={"model_path": str(tiny_llama()), **llm})
    return build_space(setup, Demand(context=300, prompt=290), cpus)


def test_the_default_space_is_of_this_machine_and_workload() -> None:
    found = built("{}", n_ctx=2048, n_threads=6)
    assert found.choices["n_threads"] == (1, 2, 4, 6)
    assert found.choices["n_ctx"] == (512, 1024, 2048)
    assert found.choices["flash_attn"] == (False, True)
    # A prompt of 290 tokens fits into one batch of 512.
    assert max(found.choices["n_ubatch"]) == 512
    assert "n_gpu_layers" not in found.choices
    assert found.today["type_k"] == "f16"


def test_declared_values_replace_the_default_ones_and_todays_is_added() -> None:
    found = built("{space: {n_batch: {min: 64, max: 300, log: true}, type_k: [null, q8_0]}}")
    assert found.choices == {"n_batch": (64, 128, 256, 1024), "type_k": ("f16", "q8_0")}
    assert found.today == {"n_batch": 1024, "type_k": "f16"}
    assert found.size == 8


def test_an_argument_in_extra_has_todays_value_or_is_left_out() -> None:
    found = built(
        "{space: {extra.rope_freq_base: [2.0, 1.0], extra: {no_perf: [true]}}}",
        extra={"rope_freq_base": 4.0},
    )
    assert found.choices == {
        "extra.rope_freq_base": (1.0, 2.0, 4.0),
        "extra.no_perf": (True, None),
    }
    assert found.today == {"extra.rope_freq_base": 4.0, "extra.no_perf": None}
    assert found.changed({**found.today, "extra.no_perf": True}) == {"extra.no_perf": True}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"flash_attn": True}, ""),
        ({"n_threads": 2}, ""),
        ({"type_v": "q8_0", "flash_attn": True}, ""),
        ({"type_v": "q8_0"}, "type_v: q8_0 needs flash_attn: true"),
        ({"n_ubatch": 512}, "n_ubatch: 512 is larger than n_batch: 32"),
    ],
)
def test_what_does_not_go_together_is_not_proposed(changed: dict[str, Any], why: str) -> None:
    assert space().why_not(changed) == why


def test_more_threads_than_cpus_may_be_todays_but_are_not_proposed() -> None:
    assert space().why_not({"flash_attn": True}) == ""
    assert "usable CPUs" in space(n_threads=2).why_not({"n_threads": 8})


def test_repaired_settings_go_together() -> None:
    whole = {**BAD, "n_ubatch": 512, "type_v": "q8_0"}
    repaired = space().repaired(whole)
    assert repaired == {**BAD, "n_threads": 2, "type_v": "q8_0", "flash_attn": True}


def test_numbers_half_way_to_the_next_values() -> None:
    steps = [*space().half_way({**BAD, "n_threads": 2, "n_batch": 128, "n_ubatch": 128})]
    assert [step[1:] for step in steps if step[0] == "n_batch"] == [(32, 64), (512, 256)]
    assert [step[1:] for step in steps if step[0] == "n_threads"] == [(8, 4)]


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("{space: {n_btach: [1]}}", "tune.space.n_btach: unknown key .*did you mean 'n_batch'"),
        ("{space: {seed: [1]}}", "tune.space.seed: not a setting to tune"),
        ("{space: {extra.x: [2026-01-01]}}", "tune.space.extra.x: a date cannot be passed on"),
        ("{space: {extra: [1]}}", "tune.space.extra: not a setting to tune .*extra.NAME"),
        ("{space: {model_path: [a]}}", "list them in tune.models"),
        ("{space: {n_threads: [0]}}", "tune.space.n_threads: expected auto or an integer >= 1"),
        ("{space: {n_ctx: {min: 64, max: 32}}}", "tune.space.n_ctx: .*min.*above max"),
        ("{space: {n_ctx: {min: 64, max: 128}}}", "either step or log"),
        ("{space: {n_ctx: []}}", "an empty list leaves no value"),
        ("{space: {n_ctx: [512, 512]}}", "names a value twice"),
        ("{space: {n_ctx: {min: 1, max: 999, step: 1}}}", "999 values; at most 64"),
        ("{models: a.gguf}", "tune.models: expected a list"),
        ("{max_memory: lots}", "tune.max_memory: expected"),
        ("{targets: {first_tokn: 1s}}", "tune.targets.first_tokn: unknown metric"),
    ],
)
def test_a_wrong_section_is_named(tune: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(tune)


def test_words_for_flags_become_flags() -> None:
    found = built("{space: {flash_attn: [yes, no]}}")
    assert found.choices == {"flash_attn": (True, False)}
