"""The order of a round's tests: random, with the same engine settings kept together."""

from __future__ import annotations

import random
from itertools import groupby, product

from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.measure.order import processes_per_round, shuffled

#: Model settings x context settings x tests.
NAMES = [f"{model}{context}{test}" for model, context, test in product("ab", "123", "xy")]
SPECS = {
    name: LaunchSpec("llama_cpp", {"n_gpu_layers": "ab".index(name[0]), "n_ctx": int(name[1])})
    for name in NAMES
}


def runs(names: list[str], length: int) -> list[str]:
    """Return the first letters of each run of consecutive tests that share them."""
    return [key for key, _ in groupby(names, lambda name: name[:length])]


def test_tests_of_the_same_settings_stay_together_in_random_order() -> None:
    seen = {shuffled_names(seed) for seed in range(60)}
    for names in seen:
        assert sorted(names) == sorted(NAMES)
        assert len(runs([*names], 1)) == 2
        assert len(runs([*names], 2)) == 6
    assert len(seen) > 50
    assert {names[0][:2] for names in seen} == {f"{m}{c}" for m, c in product("ab", "123")}
    assert {names[0][2] for names in seen} == {"x", "y"}
    assert processes_per_round(NAMES, SPECS) == 2


def shuffled_names(seed: int) -> tuple[str, ...]:
    return tuple(shuffled(NAMES, SPECS, random.Random(seed)))


def test_tests_of_the_sessions_own_settings_are_simply_mixed() -> None:
    orders = {tuple(shuffled(NAMES[:4], {}, random.Random(seed))) for seed in range(200)}
    assert len(orders) == 24
    assert processes_per_round(NAMES, {}) == 1


def test_engines_without_such_settings_take_a_process_each() -> None:
    specs = {str(n): LaunchSpec("app", {"target": "a:b", "n_ctx": n}) for n in range(3)}
    assert processes_per_round(specs, specs) == 3
