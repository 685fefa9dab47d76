"""The arithmetic of timing, and who else uses a card. Times themselves need a GPU (tests/gpu)."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from tuner.card import Card, CardState, name_others
from tuner.timing import FULL, SHORT, Repeats, Timing, rounds


def test_everyone_has_one_turn_a_round_in_an_order_of_its_own() -> None:
    order = rounds(3, 400, random.Random(1))
    assert all(sorted(turns) == [0, 1, 2] for turns in order)
    # Six orders, equally likely: none is missing, none dominates.
    assert min(Counter(map(tuple, order)).values()) > 30
    assert len({tuple(turns) for turns in order}) == 6
    assert rounds(3, 400, random.Random(1)) == order
    assert rounds(3, 400, random.Random(2)) != order


@pytest.mark.parametrize(
    ("launch_ms", "expected"), [(1.0, 20), (4.0, 5), (100.0, 3), (0.01, 50), (0.0, 50)]
)
def test_repeats_fit_the_time_within_their_limits(launch_ms: float, expected: int) -> None:
    assert Repeats(least=3, most=50, milliseconds=20).count(launch_ms) == expected


def test_a_full_timing_is_longer_than_a_short_one() -> None:
    for launch_ms in (0.01, 0.1, 1, 10, 100):
        assert FULL.count(launch_ms) > SHORT.count(launch_ms)


def test_median_and_spread_ignore_outliers() -> None:
    samples = [*np.linspace(100, 110, 19).tolist(), 5000.0]
    timing = Timing(tuple(samples), CardState())
    assert timing.median_us == pytest.approx(float(np.median(samples)))
    low, high = np.percentile(samples, [10, 90])
    assert timing.spread_us == pytest.approx(float(high - low) / 2)
    assert timing.spread_us < 10
    assert Timing((7.0,), CardState()).spread_us == 0


@pytest.mark.parametrize(
    ("pids", "busy"),
    [
        (set(), None),
        ({10}, None),
        ({10, 11}, None),
        ({99}, None),
        ({98, 99}, "1 unnamed processes"),
    ],
)
def test_other_processes_are_told_from_us(pids: set[int], busy: str | None) -> None:
    assert name_others(pids, {10, 11}) == busy


def test_other_processes_are_named() -> None:
    told = str(name_others({10, 98, 99}, {10, 11}))
    assert "(98)" in told
    assert "(99)" in told
    assert "(10)" not in told


def test_an_unknown_card_has_no_readings() -> None:
    assert Card("GPU-00000000-0000-0000-0000-000000000000").state() == CardState()
