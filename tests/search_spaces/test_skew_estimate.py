"""The skew estimate against histograms whose exponent is known, and against chance."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Bucket, Problem, Skew
from search_spaces.skew_estimate import LARGEST_EXPONENT, estimate_skew

UNIFORM = Skew()
SHAPES = st.sampled_from([(8, 1), (8, 2), (16, 2), (60, 4), (64, 6), (64, 8), (128, 8), (256, 8)])


def routed(experts: int, top_k: int, tokens: int, exponent: float, seed: int) -> list[int]:
    """Rows per expert when each token draws distinct experts, one after another, by weight."""
    rng = random.Random(seed)
    weights = Skew("zipf", exponent).weights(experts) if exponent else [1.0] * experts
    limits = list(accumulate(weights))
    rows = [0] * experts
    for _ in range(tokens):
        chosen: set[int] = set()
        while len(chosen) < top_k:
            chosen.add(rng.choices(range(experts), cum_weights=limits)[0])
        for expert in chosen:
            rows[expert] += 1
    return rows


@given(SHAPES, st.floats(0.5, 2.0), st.integers(64, 4096), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_a_buckets_own_histogram_gives_its_exponent_back(
    shape: tuple[int, int], exponent: float, per_expert: int, seed: int
) -> None:
    experts, top_k = shape
    problem = Problem("grouped_gemm", experts, 8, 8, top_k)
    histogram = Bucket(per_expert, Skew("zipf", exponent)).histogram(problem, seed)
    assert abs(estimate_skew(histogram, top_k).exponent - exponent) <= 0.06


@pytest.mark.parametrize(("experts", "top_k"), [(16, 1), (64, 1), (64, 6), (256, 8)])
@pytest.mark.parametrize("exponent", [0.5, 0.8, 1.2])
def test_loads_drawn_at_random_give_their_exponent_back(
    experts: int, top_k: int, exponent: float
) -> None:
    """Drawing without repeats evens loads out a little, so one row a token is the sharp test."""
    histogram = routed(experts, top_k, 64 * experts // top_k, exponent, seed=5)
    found = estimate_skew(histogram, top_k).exponent
    assert exponent - (0.1 if top_k == 1 else 0.25) <= found <= exponent + 0.1


@given(SHAPES, st.integers(1, 400), st.integers(0, 1 << 30))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_noise_of_even_routing_reads_as_uniform(
    shape: tuple[int, int], tokens: int, seed: int
) -> None:
    assert estimate_skew(routed(*shape, tokens, 0.0, seed), shape[1]) == UNIFORM


@given(SHAPES, st.floats(0.05, 3000))
def test_an_even_bucket_reads_as_uniform(shape: tuple[int, int], per_expert: float) -> None:
    problem = Problem("grouped_gemm", shape[0], 8, 8, shape[1])
    assert estimate_skew(Bucket(per_expert).histogram(problem, 1), shape[1]) == UNIFORM


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=300), st.integers(1, 8), st.data())
def test_any_histogram_has_an_answer_and_order_does_not_matter(
    histogram: list[int], top_k: int, data: st.DataObject
) -> None:
    top_k = min(top_k, len(histogram))
    found = estimate_skew(histogram, top_k)
    assert found == UNIFORM or (found.kind == "zipf" and 0 < found.exponent <= LARGEST_EXPONENT)
    assert Skew.parse(str(found)) == found
    assert estimate_skew(data.draw(st.permutations(histogram)), top_k) == found


@pytest.mark.parametrize("histogram", [[0], [9], [0] * 8, [7] + [0] * 7, [1, 0, 0, 6] + [0] * 60])
def test_few_rows_say_nothing(histogram: list[int]) -> None:
    assert estimate_skew(histogram) == UNIFORM


def test_one_expert_alone_is_as_skewed_as_can_be_told() -> None:
    assert estimate_skew([0, 0, 4000, 0]) == Skew("zipf", LARGEST_EXPONENT)


def test_steeper_loads_never_read_as_flatter() -> None:
    problem = Problem("grouped_gemm", 64, 8, 8, 6)
    found = [
        estimate_skew(Bucket(256, Skew("zipf", s / 10)).histogram(problem, 0), 6).exponent
        for s in range(1, 31)
    ]
    assert found == sorted(found)


def test_what_top_k_caps_is_taken_into_account() -> None:
    """No expert gets more than half of the rows of two distinct choices: zipf:2 asks for 65 %."""
    problem = Problem("grouped_gemm", 8, 8, 8, 2)
    histogram = Bucket(512, Skew("zipf", 2.0)).histogram(problem, 0)
    assert max(histogram) == sum(histogram) / 2
    assert abs(estimate_skew(histogram, 2).exponent - 2.0) <= 0.06
    assert estimate_skew(histogram, 1).exponent < 1.9
