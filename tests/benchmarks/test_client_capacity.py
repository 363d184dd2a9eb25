"""When the client benchmark calls our client too slow."""

from __future__ import annotations

from client_capacity import shares, too_slow

BARE = [100.0, 200.0, 100.0]


def test_rates_are_compared_within_a_round():
    assert shares({"bare": BARE, "ours": [95.0, 180.0, 99.0]}, "ours") == [0.9, 0.95, 0.99]


def test_less_than_nine_tenths_of_bare_aiohttp_in_the_median_is_too_slow():
    rates = {
        "requests/s": {"bare": BARE, "ours": [89.0, 178.0, 99.0]},
        "chunks/s": {"bare": BARE, "ours": [90.0, 180.0, 10.0]},
    }
    assert too_slow(rates) == ["requests/s: 89% of bare aiohttp, less than 90%"]
