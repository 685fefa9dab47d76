"""Selection against brute force over synthetic kernels whose time is known at every row count."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import pytest

from search_spaces import Bucket, Skew
from tuning_db import Source
from tuning_db.selection import REACH, Choice, TunedBucket, select

EXPERTS = 8
DEFAULT = "default"
Curve = Callable[[float], float]


def tuned(
    rows: int,
    times: Mapping[str, float],
    *,
    winner: str | None = None,
    source: Source = Source.MEASURED,
    skew: str = "uniform",
    top_k: int = 2,
) -> TunedBucket:
    best = winner or min(times, key=lambda name: times[name])
    bucket = Bucket(rows / EXPERTS, Skew.parse(skew))
    return TunedBucket(bucket, rows, top_k, source, best, times)


def kernel(rng: random.Random) -> Curve:
    """A time that never falls with rows and never grows faster than they do, with many kinks."""
    knots = [2**i for i in range(16)]
    times = [rng.uniform(1, 30)]
    for _ in knots[1:]:
        times.append(times[-1] * 2 ** rng.choice([0.0, 0.1, 0.5, 0.9, 1.0, rng.random()]))

    def curve(rows: float) -> float:
        i = min(int(math.log2(rows)), len(knots) - 2)
        share = math.log2(rows) - i
        return math.exp((1 - share) * math.log(times[i]) + share * math.log(times[i + 1]))

    return curve


def search(kernels: Mapping[str, Curve], rows: int, timed: set[str]) -> TunedBucket:
    """What a search leaves in the DB: times of its winner, the default and others it tried."""
    winner = min(kernels, key=lambda name: kernels[name](rows))
    names = timed | {winner, DEFAULT}
    return tuned(rows, {name: kernels[name](rows) for name in names}, winner=winner)


@pytest.mark.parametrize("seed", range(60))
def test_choice_against_brute_force(seed: int) -> None:
    """No config beats the winner at its bucket; elsewhere the promised bound holds."""
    rng = random.Random(seed)
    kernels = {name: kernel(rng) for name in ["a", "b", "c", "d", "e", DEFAULT]}
    grid = sorted(rng.sample([2**i for i in range(15)], rng.randint(1, 8)))
    timed = set(rng.sample(sorted(kernels), rng.randint(0, 5)))
    family = [search(kernels, rows, timed) for rows in grid]
    rng.shuffle(family)
    for rows in sorted({*grid, *(rng.randint(1, 2**14) for _ in range(40))}):
        choice = select(family, rows, DEFAULT)
        taken, default = kernels[choice.config](rows), kernels[DEFAULT](rows)
        if rows in grid:
            assert taken == min(curve(rows) for curve in kernels.values())
        elif grid[0] < rows < grid[-1]:
            low, high = max(g for g in grid if g < rows), min(g for g in grid if g > rows)
            assert taken <= default * math.sqrt(high / low) * (1 + 1e-9)
        elif not grid[0] / REACH <= rows <= grid[-1] * REACH:
            assert choice.config == DEFAULT


def test_a_dense_grid_gains_on_the_default_and_loses_little_on_the_best() -> None:
    """Over random kernels on the usual grid: near the best of all on average, and better than
    always taking the nearest bucket's winner or the next larger one's."""
    regret: dict[str, list[float]] = {"select": [], "nearest": [], "ceiling": [], DEFAULT: []}
    for seed in range(40):
        rng = random.Random(seed)
        kernels = {name: kernel(rng) for name in ["a", "b", "c", "d", "e", DEFAULT]}
        family = [search(kernels, 2**i, set(kernels)) for i in range(14)]
        for rows in [rng.randint(1, 2**13) for _ in range(30)]:
            best = min(curve(rows) for curve in kernels.values())
            nearest = min(family, key=lambda b: abs(math.log(b.rows / rows))).winner
            ceiling = min((b for b in family if b.rows >= rows), key=lambda b: b.rows).winner
            picks = {"nearest": nearest, "ceiling": ceiling, DEFAULT: DEFAULT}
            picks["select"] = select(family, rows, DEFAULT).config
            for name, pick in picks.items():
                regret[name].append(kernels[pick](rows) / best)
    mean = {name: sum(values) / len(values) for name, values in regret.items()}
    assert mean["select"] < 1.02
    assert mean["select"] <= mean["nearest"]
    assert mean["select"] < mean["ceiling"]
    assert mean["select"] < mean[DEFAULT]


def test_a_config_for_few_tokens_does_not_reach_thousands_nor_the_other_way_round() -> None:
    few = tuned(8, {"few": 50.0, DEFAULT: 80.0})
    many = tuned(8192, {"many": 900.0, DEFAULT: 1000.0})
    far = [select([few], 8192, DEFAULT), select([many], 8, DEFAULT)]
    assert [choice.config for choice in far] == [DEFAULT, DEFAULT]
    assert all("more than 4x away" in choice.reason for choice in far)
    both = [few, many]
    picked = {rows: select(both, rows, DEFAULT).config for rows in (8, 9, 4000, 8192)}
    assert picked == {8: "few", 9: "few", 4000: DEFAULT, 8192: "many"}


def test_a_winner_timed_at_both_ends_is_interpolated() -> None:
    """Halfway (on a log axis) between 1 and 4 times 10 us the interpolated time is 20 us."""
    family = [
        tuned(64, {"x": 10.0, "y": 9.0, DEFAULT: 12.0}),
        tuned(256, {"x": 40.0, "y": 90.0, DEFAULT: 44.0}),
    ]
    choice = select(family, 128, DEFAULT)
    assert choice.config == "x"
    assert choice.times_us["x"] == pytest.approx(20.0)
    assert choice.times_us["y"] == pytest.approx(math.sqrt(9 * 90))
    assert choice.times_us[DEFAULT] == pytest.approx(math.sqrt(12 * 44))
    assert [bucket.tokens_per_expert for bucket in choice.buckets] == [8, 32]


def test_an_end_that_was_never_timed_counts_at_its_worst() -> None:
    family = [tuned(64, {"low": 10.0, DEFAULT: 16.0}), tuned(256, {"high": 18.0, DEFAULT: 36.0})]
    times = select(family, 128, DEFAULT).times_us
    assert times["low"] == pytest.approx(20.0)  # in proportion to the rows
    assert times["high"] == pytest.approx(18.0)  # no less than with 256 rows
    assert times[DEFAULT] == pytest.approx(24.0)


def test_the_default_runs_where_it_was_faster_than_the_winner() -> None:
    """Cannot come out of a search, and must not slow anybody down when it does."""
    choice = select([tuned(64, {"x": 10.0, DEFAULT: 9.0}, winner="x")], 64, DEFAULT)
    assert (choice.config, choice.source) == (DEFAULT, Source.MEASURED)


def test_a_default_that_was_never_timed_makes_no_claim() -> None:
    assert select([tuned(64, {"x": 10.0})], 64, DEFAULT).config == "x"


@pytest.mark.parametrize(("rows", "config"), [(16, "x"), (64, "x"), (256, "x"), (15, DEFAULT),
                                              (257, DEFAULT)])  # fmt: skip
def test_one_bucket_speaks_for_four_times_its_rows_either_way(rows: int, config: str) -> None:
    assert select([tuned(64, {"x": 10.0, DEFAULT: 11.0})], rows, DEFAULT).config == config


def test_nothing_tuned_takes_the_default() -> None:
    choice = select([], 5, DEFAULT)
    assert (choice.config, choice.buckets, choice.source) == (DEFAULT, (), None)


def test_times_of_two_sources_are_never_compared() -> None:
    """The cost model is optimistic: 1 us says nothing beside a measured 10."""
    measured = tuned(64, {"real": 10.0, DEFAULT: 12.0})
    predicted = [
        tuned(rows, {"guess": 1.0, DEFAULT: 2.0}, source=Source.PREDICTED)
        for rows in (8, 64, 128, 2048)
    ]
    everything = [*predicted, measured]
    picked = {rows: select(everything, rows, DEFAULT) for rows in (8, 64, 128, 2048)}
    assert [choice.config for choice in picked.values()] == ["guess", "real", "real", "guess"]
    assert picked[64].source is Source.MEASURED
    assert picked[2048].source is Source.PREDICTED


def test_replayed_stands_between_measured_and_predicted() -> None:
    family = {source: tuned(64, {source.value: 5.0}, source=source) for source in Source}
    assert select([*family.values()], 64, DEFAULT).config == "measured"
    del family[Source.MEASURED]
    assert select([*family.values()], 64, DEFAULT).config == "replayed"


def test_the_skew_asked_for_is_preferred_and_the_nearest_one_stands_in() -> None:
    family = [
        tuned(64, {"even": 5.0}),
        tuned(64, {"mild": 7.0}, skew="zipf:0.5"),
        tuned(64, {"steep": 9.0}, skew="zipf:1.5"),
    ]

    def pick(skew: str) -> str:
        return select(family, 64, DEFAULT, skew=Skew.parse(skew)).config

    assert pick("uniform") == "even"
    assert pick("zipf:0.5") == "mild"
    assert pick("zipf:1.2") == "steep"


def test_top_k_is_preferred_where_it_is_known() -> None:
    family = [tuned(64, {"two": 5.0}, top_k=2), tuned(64, {"six": 5.0}, top_k=6)]
    assert select(family, 64, DEFAULT, top_k=6).config == "six"
    assert select(family, 64, DEFAULT, top_k=2).config == "two"
    assert select(family, 64, DEFAULT, top_k=4).config in ("two", "six")


def test_reasons_name_buckets_source_and_times() -> None:
    family = [
        tuned(64, {"x": 10.0, DEFAULT: 12.0}),
        tuned(256, {"x": 40.0, "y": 39.0, DEFAULT: 44.0}),
    ]

    def said(choice: Choice, *words: str) -> None:
        assert [word for word in words if word not in choice.reason] == []

    said(select(family, 64, DEFAULT), "measured bucket 8@uniform", "10.0 us", "12.0")
    said(select(family, 100, DEFAULT), "between the measured buckets 8@uniform and 32@uniform")
    said(select(family, 512, DEFAULT), "beyond the measured bucket 32@uniform")
    said(select(family, 5000, DEFAULT), "nearest tuned bucket 32@uniform", "default runs")
