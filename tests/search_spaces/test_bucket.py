"""Bucket and Skew: names, row counts, and histograms against an independent router."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Bucket, Problem, Skew, UserError, bucket_grid, bucket_range
from search_spaces.bucket import NARROWEST, bucket_between

PROBLEM = Problem("grouped_gemm", experts=64, n=64, k=64, top_k=8)
MIXTRAL = Problem("grouped_gemm", experts=8, n=64, k=64, top_k=2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    experts = draw(st.integers(1, 160))
    top_k = draw(st.integers(1, min(experts, 10)))
    return Problem("grouped_gemm", experts, 64, 64, top_k)


skews = st.builds(Skew) | st.floats(0.01, 8).map(lambda x: Skew("zipf", x))


@given(st.floats(1e-4, 1 << 20), skews)
def test_names_round_trip(tokens: float, skew: Skew) -> None:
    bucket = Bucket(tokens, skew)
    assert Bucket.parse(str(bucket)) == bucket
    assert Skew.parse(str(skew)) == skew


def test_names_are_short() -> None:
    assert str(Bucket(16)) == "16@uniform"
    assert str(Bucket(0.25, Skew("zipf", 1.2))) == "0.25@zipf:1.2"
    assert Bucket.parse("16") == Bucket(16)
    assert Bucket.parse("16@zipf:1").skew == Skew("zipf", 1.0)


@pytest.mark.parametrize(
    "text", ["", "x", "16@", "0", "-1", "nan", "inf", "1e9", "16@even", "16@zipf", "16@zipf:-1",
             "16@zipf:nan", "16@zipf:9", "16@uniform:1", "1,2"],
)  # fmt: skip
def test_malformed_buckets_are_refused(text: str) -> None:
    with pytest.raises(UserError) as error:
        Bucket.parse(text)
    assert "\n" not in str(error.value)


@given(problems(), st.floats(1e-3, 512), skews, st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_histogram_is_one_that_routing_can_make(
    problem: Problem, tokens_per_expert: float, skew: Skew, seed: int
) -> None:
    bucket = Bucket(tokens_per_expert, skew)
    histogram = bucket.histogram(problem, seed)
    tokens = bucket.tokens(problem)
    assert len(histogram) == problem.experts
    assert sum(histogram) == bucket.rows(problem) == tokens * problem.top_k
    # a token's experts are distinct, so that none gets more rows than there are tokens
    assert 0 <= min(histogram) <= max(histogram) <= tokens
    assert sum(rows > 0 for rows in histogram) >= problem.top_k
    assert histogram == bucket.histogram(problem, seed)


@given(problems(), st.floats(1e-3, 512), st.integers(0, 99))
def test_uniform_is_even(problem: Problem, tokens_per_expert: float, seed: int) -> None:
    histogram = Bucket(tokens_per_expert).histogram(problem, seed)
    assert max(histogram) - min(histogram) <= 1


def test_one_token_reaches_top_k_experts_and_the_seed_draws_which() -> None:
    first = bucket_grid(PROBLEM)[0]
    drawn = [first.histogram(PROBLEM, seed) for seed in range(20)]
    assert all(sorted(h) == [0] * 56 + [1] * 8 for h in drawn)
    assert len({tuple(h) for h in drawn}) > 1


def route(weights: list[float], tokens: int, top_k: int, rng: random.Random) -> list[int]:
    """Rows per expert when each token draws top_k experts one after another, none twice."""
    rows = [0] * len(weights)
    for _ in range(tokens):
        left = dict(enumerate(weights))
        for _ in range(top_k):
            expert = rng.choices(list(left), list(left.values()))[0]
            rows[expert] += 1
            del left[expert]
    return rows


@pytest.mark.parametrize(("problem", "exponent"), [(MIXTRAL, 0.8), (PROBLEM, 1.2), (PROBLEM, 0.5)])
def test_zipf_resembles_simulated_routing(problem: Problem, exponent: float) -> None:
    bucket = Bucket(64, Skew("zipf", exponent))
    weights = [(rank + 1) ** -exponent for rank in range(problem.experts)]
    tokens = bucket.tokens(problem)
    simulated = sorted(route(weights, tokens, problem.top_k, random.Random(1)), reverse=True)
    expected = sorted(bucket.histogram(problem, seed=1), reverse=True)
    moved = sum(abs(a - b) for a, b in zip(simulated, expected, strict=True)) / 2
    assert moved / bucket.rows(problem) < 0.12
    assert expected[0] == pytest.approx(simulated[0], rel=0.25)


def test_more_skew_loads_the_fullest_expert_more_until_every_token_goes_there() -> None:
    fullest = [max(Bucket(64, Skew("zipf", x)).histogram(PROBLEM, 0)) for x in (0.01, 0.25, 0.5, 2)]
    assert fullest == sorted(set(fullest))
    assert fullest[-1] == Bucket(64).tokens(PROBLEM)


def test_grid_and_ranges_cover_every_count_once() -> None:
    grid = bucket_grid(PROBLEM)
    sizes = [b.tokens_per_expert for b in grid]
    assert sizes == [8 / 64, *(2.0**i for i in range(13))]
    assert grid[0].tokens(PROBLEM) == 1
    ranges = [bucket_range(b, grid) for b in grid]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == float("inf")
    assert all(one[1] == other[0] for one, other in itertools.pairwise(ranges))
    assert all(low < size < high for size, (low, high) in zip(sizes, ranges, strict=True))
    assert bucket_range(Bucket(4), grid) == (8**0.5, 32**0.5)


def test_grid_has_one_token_once_when_all_experts_are_active() -> None:
    dense = Problem("grouped_gemm", experts=2, n=64, k=64, top_k=2)
    assert [b.tokens_per_expert for b in bucket_grid(dense)][:2] == [1.0, 2.0]


@given(problems(), skews, st.integers(1, 5000), st.integers(1, 5000))
def test_the_bucket_between_is_a_whole_number_of_tokens_near_the_middle(
    problem: Problem, skew: Skew, one: int, other: int
) -> None:
    low, high = sorted((one, other))
    ends = [Bucket(tokens * problem.top_k / problem.experts, skew) for tokens in (low, high)]
    found = bucket_between(problem, *ends)
    if found is None:
        assert high < low * (NARROWEST + 1e-9) or high - low <= 1
        return
    tokens = found.tokens(problem)
    assert low < tokens < high
    assert abs(tokens - math.sqrt(low * high)) <= 0.51
    assert (Bucket.parse(str(found)), found.skew) == (found, skew)
    assert found.rows(problem) == round(found.tokens_per_expert * problem.experts)


def test_the_bucket_between_is_the_edge_of_both_ranges() -> None:
    grid = bucket_grid(MIXTRAL)
    for low, high in itertools.pairwise(grid[3:]):
        edge = bucket_between(MIXTRAL, low, high)
        assert edge is not None
        assert edge.tokens_per_expert == pytest.approx(bucket_range(low, grid)[1], rel=0.05)
    assert bucket_between(MIXTRAL, Bucket(16), Bucket(23)) is None
