"""The worked example of docs/math.md: every number on the page is what the code computes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from pytest_llmperf.stats.e_process import critical_t, direction, log_e
from pytest_llmperf.stats.paired import (
    AGREE,
    CLIP_SHARE,
    Look,
    Zone,
    bounds,
    clip,
    look,
    min_pairs_to_call,
    pairs_needed,
)
from pytest_llmperf.stats.prediction import predict
from pytest_llmperf.stats.student import t_quantile

PAGE = Path(__file__).parents[2] / "docs" / "math.md"
ZONE = Zone.of(0.05)


@pytest.fixture(scope="module")
def text() -> str:
    """The page with each run of white space as one space."""
    return re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows() -> list[list[float]]:
    """Table rows of the page that hold only numbers."""
    lines = [line.strip("| ").split("|") for line in PAGE.read_text("utf-8").splitlines()]
    number = re.compile(r"\s*-?\d+(\.\d+)?\s*$")
    return [
        [float(cell) for cell in line]
        for line in lines
        if len(line) > 1 and all(number.match(cell) for cell in line)
    ]


@pytest.fixture(scope="module")
def pairs(rows: list[list[float]]) -> list[list[float]]:
    return [row for row in rows if len(row) == 4]


@pytest.fixture(scope="module")
def d(pairs: list[list[float]]) -> np.ndarray:
    return np.array([row[3] for row in pairs])


@pytest.fixture(scope="module")
def seen(d: np.ndarray) -> Look:
    return look(d, ZONE)


def test_zone(text: str) -> None:
    for value, meaning in (
        (ZONE.negligible, "a true slowdown up to this"),
        (ZONE.min_called, "a smaller measured mean"),
        (ZONE.tolerance, "a true slowdown of this or more"),
    ):
        assert f"| {value:.5f} | {meaning}" in text


def test_differences_are_the_logarithms_of_the_pairs(pairs: list[list[float]]) -> None:
    assert len(pairs) == 5
    for _, baseline, candidate, difference in pairs:
        assert round(math.log(candidate / baseline), 4) == difference


def test_clipping(text: str, d: np.ndarray) -> None:
    centre = float(np.median(d))
    away = np.abs(d - centre)
    mad = float(np.median(away))
    listed = ", ".join("0" if value == 0.0 else f"{value:.4f}" for value in away)
    assert f"The median is {centre:.4f}. The distances from it are {listed}" in text
    k = 1.5 + 40 / 5
    assert f"k = 1.5 + 40/5 = {k:.1f}, and {k:.1f} · 1.4826 · {mad:.4f}" in text
    assert f"= {k * 1.4826 * mad:.4f} is less than 0.05" in text
    assert [i for i in range(5) if clip(d)[i] != d[i]] == [3]
    assert f"pair 4 becomes {clip(d)[3]:.4f}" in text


def test_mean_and_spread(text: str, seen: Look) -> None:
    assert f"mean = {seen.mean:.4f}, sd = {seen.sd:.5f}" in text


def test_evidence_for_worse(text: str, d: np.ndarray, seen: Look) -> None:
    x = clip(d) - ZONE.negligible
    u = float(direction(x))
    t = math.sqrt(5) * float(seen.mean - ZONE.negligible) / float(seen.sd)
    total, squares = x.sum(), (x * x).sum()
    listed = [
        float(word) for word in re.findall(r"is ((?:0\.\d{4}, ){4}0\.\d{4})", text)[0].split(", ")
    ]
    assert listed == pytest.approx(x.tolist(), abs=6e-5)
    assert f"u = {total:.5f} / √(5 · {squares:.6f}) = {u:.4f}" in text
    assert f"/ {seen.sd:.5f} = {t:.3f}" in text
    assert f"1 - u² = {1 - u * u:.4f}" in text
    assert f"C_5 = {2**1.5 * math.gamma(2.5):.4f}" in text
    assert f"ln E0 = {float(log_e(5, u)):.3f}" in text


def test_integrand_and_the_trapezoidal_rule(
    text: str, rows: list[list[float]], d: np.ndarray
) -> None:
    table = [row for row in rows if len(row) == 2]
    u = float(direction(clip(d) - ZONE.negligible))

    def f(y: float) -> float:
        delta = math.exp(y)
        a = delta * math.sqrt(5) * u
        j0 = math.sqrt(2 * math.pi) * 0.5 * (1 + math.erf(a / math.sqrt(2)))
        j4 = (a**4 + 6 * a**2 + 3) * j0 + (a**3 + 5 * a) * math.exp(-a * a / 2)
        falling = math.exp(-5 * delta**2 * (1 - u * u) / 2)
        weight = 2 / (math.sqrt(3) * math.pi * 0.6) / (1 + ((y - 0.5) / 0.6) ** 2 / 3) ** 2
        return weight * falling * j4 / (2**1.5 * math.gamma(2.5))

    assert [row[0] for row in table] == [-4.0 + 0.5 * i for i in range(13)]
    assert [row[1] for row in table] == [round(f(row[0]), 4) for row in table]
    heights = [row[1] for row in table]
    area = 0.5 * (sum(heights) - (heights[0] + heights[-1]) / 2)
    assert f"gives E0 = {area:.3f}, ln E0 = {math.log(area):.3f}" in text


def test_what_it_takes_to_decide(text: str, seen: Look) -> None:
    assert f"ln 100 = {math.log(100):.3f}" in text
    needed = pairs_needed(seen, ZONE.negligible, math.log(100))
    assert f"it would take {needed} pairs in all" in text
    assert f"ln 20 = {math.log(20):.3f}" in text


def test_evidence_for_fine(text: str, d: np.ndarray) -> None:
    u = float(direction(ZONE.tolerance - clip(d)))
    assert f"gives u = {u:.4f} and ln E1 = {float(log_e(5, u)):.3f}" in text


def test_interval(text: str, seen: Look) -> None:
    low, high = (float(end) for end in bounds(seen, 0.95))
    critical = critical_t(5, math.log(40))
    assert f"critical_t(5, ln 40) = {critical:.3f}" in text
    assert f"± {critical:.3f} · {seen.sd:.5f} / √5, from {low:.4f} to {high:.4f}" in text
    least, most = 100 * math.expm1(low), 100 * math.expm1(high)
    assert f"between {least:.1f}% and {most:.1f}% slower" in text


def test_values_for_other_implementations(text: str) -> None:
    first = float(log_e(5, 3 / math.sqrt(3**2 + 4)))
    second = float(log_e(8, 5 / math.sqrt(5**2 + 7)))
    assert f"(5, 3) is {first:.4f}, for (8, 5) it is {second:.4f}" in text


def test_most_that_three_pairs_can_show(text: str) -> None:
    assert f"at most ln E = {float(log_e(3, 1.0)):.2f}" in text


def test_margin_of_one_stored_session(text: str) -> None:
    margin = t_quantile(0.95, 3) * float(predict([0.0]).se)
    assert f"the margin is {100 * margin:.1f}%" in text


def test_pairs_that_agree(text: str) -> None:
    assert f"a chance of at most 1/{1 / AGREE:.0f}: six of six, nine of ten" in text
    assert sum(math.comb(10, k) for k in (9, 10)) / 2**10 <= AGREE < 10 / 2**9
    assert min_pairs_to_call() == 6
    assert CLIP_SHARE == 0.25
