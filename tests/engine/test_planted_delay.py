from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.planted import Delay, Plant
from pytest_llmperf.engine.request import build_request

#: Resolution of the clock below, seconds.
TICK = 1e-4


class Clock:
    """A clock that advances with every reading and with simulated work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += TICK
        return self.now

    def work(self, seconds: float) -> Callable[[], str]:
        def step() -> str:
            self.now += seconds
            return "token"

        return step


def times(slowdown: float, steps: int = 4) -> list[float]:
    """Return when each token came, for a request that takes a second per step."""
    clock = Clock()
    pick = Delay(Plant(slowdown), clock).slowed(clock.work(1.0))
    moments = []
    for _ in range(steps):
        assert pick() == "token"
        moments.append(clock.now)
    return moments


def test_every_step_after_the_first_takes_so_much_longer() -> None:
    first, *rest = times(0.5)

    gaps = [after - before for before, after in zip([first, *rest], rest, strict=False)]
    assert gaps == pytest.approx([1.5] * 3, abs=5 * TICK)


def test_the_first_token_is_left_alone() -> None:
    assert times(3.0)[0] == times(0.0)[0]


def test_what_is_done_between_two_steps_counts_as_the_steps_time() -> None:
    clock = Clock()
    pick = Delay(Plant(1.0), clock).slowed(clock.work(1.0))
    pick()
    began = clock.now
    clock.now += 2.0
    pick()

    assert clock.now - began == pytest.approx(6.0, abs=5 * TICK)


def test_a_pause_between_two_turns_is_not_slowed() -> None:
    clock = Clock()

    def sleep(tokens: int) -> None:
        clock.now += 100.0

    delay = Delay(Plant(1.0), clock)
    pick, pause = delay.slowed(clock.work(1.0)), delay.around(sleep)
    pick()
    for _ in range(2):
        pause(1)
        began = clock.now
        pick()
        assert clock.now - began == pytest.approx(2.0, abs=10 * TICK)


def test_every_fourth_step_waits_for_four() -> None:
    clock = Clock()
    pick = Delay(Plant(0.5, every=4), clock).slowed(clock.work(1.0))
    pick()
    moments = [clock.now]
    for _ in range(8):
        pick()
        moments.append(clock.now)

    gaps = [after - before for before, after in pairwise(moments)]
    assert gaps == pytest.approx([1, 1, 1, 3, 1, 1, 1, 3], abs=10 * TICK)


def test_the_prompt_alone_is_slowed_without_its_pauses() -> None:
    clock = Clock()

    def sleep(tokens: int) -> None:
        clock.now += 100.0

    delay = Delay(Plant(0.5, part="prompt"), clock)
    pick, pause = delay.slowed(clock.work(1.0)), delay.around(sleep)
    began = clock.now
    clock.now += 4.0
    pause(0)
    delay.slow_prompt(began)
    assert clock.now - began == pytest.approx(106.0, abs=10 * TICK)
    began = clock.now
    pick()
    pick()
    assert clock.now - began == pytest.approx(2.0, abs=10 * TICK)


@pytest.mark.parametrize(("in_turns", "walked"), [(False, [5, 9]), (True, [])])
def test_a_buffer_is_walked_after_a_step_or_at_the_end_of_a_turn(
    monkeypatch: pytest.MonkeyPatch, in_turns: bool, walked: list[int]
) -> None:
    tokens: list[str] = []
    walks: list[int] = []
    delay = Delay(Plant(0.0, every=4, buffer=1 << 20))
    monkeypatch.setattr(delay._buffer, "walk", lambda: walks.append(len(tokens) + 1))
    pick = delay.slowed(lambda: "token", in_turns=in_turns)
    while len(tokens) < 10:
        tokens.append(pick())
    assert walks == walked
    delay.at_end_of_turn()
    assert walks == [*walked, 11]


def test_walking_a_buffer_reads_and_writes_all_of_it() -> None:
    buffer = Delay(Plant(0.0, buffer=(1 << 20) + 2))._buffer
    assert buffer is not None
    half = len(buffer._memory) // 2
    buffer._memory[:half] = bytes(range(256)) * 2048 + b"x"
    buffer.walk()
    assert buffer._memory[half:] == buffer._memory[:half]


def test_a_share_of_the_requests_is_slowed() -> None:
    delay = Delay(Plant(0.5, share=0.25, seed=7))

    slowed = sum(delay.slowed(times) is not times for _ in range(400))

    assert 60 <= slowed <= 140


def test_the_choice_of_requests_is_repeated_by_its_seed() -> None:
    def choice(seed: int) -> list[bool]:
        delay = Delay(Plant(0.5, share=0.5, seed=seed))
        return [delay.slowed(times) is not times for _ in range(32)]

    assert choice(1) == choice(1)
    assert choice(1) != choice(2)


@pytest.mark.parametrize(("share", "slowed"), [(0.0, False), (1.0, True)])
def test_none_and_all_are_shares_too(share: float, slowed: bool) -> None:
    delay = Delay(Plant(0.5, share=share))

    assert {delay.slowed(times) is not times for _ in range(32)} == {slowed}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slowdown": -0.1}, "planted slowdown: -0.1"),
        ({"slowdown": float("nan")}, "planted slowdown: nan"),
        ({"slowdown": float("inf")}, "planted slowdown: inf"),
        ({"slowdown": 0.1, "share": 1.5}, "planted share: 1.5"),
        ({"slowdown": 0.1, "buffer": -1}, "planted buffer: -1"),
    ],
)
def test_what_can_not_be_planted_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plant(**values)  # type: ignore[arg-type]


def test_a_plant_survives_the_wire() -> None:
    plant = Plant(0.05, share=0.2, seed=3, part="prompt", every=16, buffer=1 << 20)

    assert Plant.from_wire(plant.to_wire()) == plant


def test_without_a_plant_the_wire_does_not_speak_of_one() -> None:
    assert "plant" not in LaunchSpec("app", {"target": "a:b"}).load_command()


@pytest.fixture
def measured(
    llama_config: Callable[..., dict[str, Any]], clients: Callable[[LaunchSpec], EngineClient]
) -> Callable[[Plant | None], tuple[float, float]]:
    """A function that returns a real model's median token gap and first-token time, seconds."""

    def measure(plant: Plant | None) -> tuple[float, float]:
        client = clients(LaunchSpec("llama_cpp", llama_config(), plant=plant))
        request = build_request(prompt="The capital of France is", max_tokens=16)
        timelines = [client.request(request).timeline for _ in range(3)]
        client.close()
        gaps = [gap for timeline in timelines for gap in timeline.gaps()]
        return median(gaps), min(t.token_times[0] - t.t_start for t in timelines)

    return measure


def test_a_real_model_decodes_slower_and_its_first_token_comes_as_before(
    measured: Callable[[Plant | None], tuple[float, float]],
) -> None:
    gap, first = measured(None)
    slow_gap, slow_first = measured(Plant(3.0))

    assert slow_gap > 2 * gap
    # If it were slowed too, it would take four times as long.
    assert slow_first < 3 * first


PACED = """
    import time
    def answer(prompt):
        for letter in "abcd":
            time.sleep(0.02)
            yield letter
"""
PACED_ASYNC = """
    import asyncio
    async def answer(prompt):
        for letter in "abcd":
            await asyncio.sleep(0.02)
            yield letter
"""


@pytest.mark.parametrize("source", [PACED, PACED_ASYNC], ids=["generator", "async generator"])
def test_an_application_is_slowed_between_its_items(app: Any, source: str) -> None:
    generation = app(source, plant=Plant(2.0)).generate("hi", max_tokens=3)

    assert generation.text == "abc"
    # Each step sleeps 20 ms at least, and the wait after it is twice as long.
    assert all(gap > 0.055 for gap in generation.timeline.gaps())


def test_a_slowed_application_that_fails_says_so(app: Any) -> None:
    source = "def answer(prompt):\n    yield 'a'\n    raise ValueError('no')"

    with pytest.raises(Exception, match="raised ValueError: no"):
        app(source, plant=Plant(1.0)).generate("hi")


def test_a_slowed_application_left_early_is_closed(app: Any, tmp_path: Any) -> None:
    source = """
        import pathlib
        def answer(prompt):
            try:
                yield from "abcd"
            finally:
                pathlib.Path(__file__).with_name("closed").touch()
    """

    app(source, plant=Plant(0.5)).generate("hi", max_tokens=2)

    assert (tmp_path / "closed").exists()
