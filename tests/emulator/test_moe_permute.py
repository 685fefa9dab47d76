"""Slots sorted by expert, emulated against Python's own sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.permute_config import PermuteConfig
from search_spaces.permute_problem import MOST_GROUPS, PermuteProblem
from tests.emulator.permute_kernels import HeaderKernel, run_op
from tests.permutation_oracle import drawn_ids, groups_here, placement, sorted_slots

CTAS, ALONE = False, True
# A chunk of 96 leaves warps without slots, one of 1000 is no multiple of the threads.
SHAPES = ((64, 64), (128, 96), (64, 1000), (256, 1024))
# slots, experts, slots a token
SIZES = ((1, 1, 1), (8, 128, 8), (300, 7, 3), (600, 40, 2))


@pytest.mark.parametrize("alone", [CTAS, ALONE], ids=["passes", "alone"])
@pytest.mark.parametrize(("threads", "chunk"), SHAPES)
def test_every_chunk_and_size(threads: int, chunk: int, alone: bool) -> None:
    kernel = HeaderKernel(threads, chunk, alone)
    for seed, (count, experts, per_token) in enumerate(SIZES):
        ids = drawn_ids(count, experts, seed)
        expected = sorted_slots(ids, experts, per_token)
        assert kernel.sort(ids, experts, per_token) == expected, (count, experts)


@pytest.mark.parametrize("alone", [CTAS, ALONE], ids=["passes", "alone"])
@pytest.mark.parametrize("experts", [1, 2, 33, 257, 1025, MOST_GROUPS])
def test_every_number_of_experts(experts: int, alone: bool) -> None:
    """More experts than threads, and than threads x 4; three chunks, of which the last is short."""
    ids = drawn_ids(300, experts, seed=experts)
    assert HeaderKernel(128, 128, alone).sort(ids, experts, 4) == sorted_slots(ids, experts, 4)


@pytest.mark.parametrize("alone", [CTAS, ALONE], ids=["passes", "alone"])
@pytest.mark.parametrize("ids", [[], [-1] * 200, [6] * 200, [0] * 64], ids=str)
def test_slots_of_none_and_of_one_expert(ids: list[int], alone: bool) -> None:
    assert HeaderKernel(64, 64, alone).sort(ids, 7, 2) == sorted_slots(ids, 7, 2)


def test_the_order_of_ctas_does_not_show() -> None:
    """CTAs one by one, and all together."""
    kernel, ids = HeaderKernel(64, 64, CTAS), drawn_ids(700, 9, seed=3)
    results = [kernel.sort(ids, 9, 2, cohort_lanes=lanes) for lanes in (64, 4096)]
    assert results[0] == results[1] == sorted_slots(ids, 9, 2)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 9).flatmap(
        lambda experts: st.tuples(
            st.just(experts), st.lists(st.integers(-1, experts - 1), max_size=150)
        )
    ),
    st.booleans(),
)
def test_any_small_list(drawn: tuple[int, list[int]], alone: bool) -> None:
    experts, ids = drawn
    assert HeaderKernel(64, 48, alone).sort(ids, experts, 1) == sorted_slots(ids, experts, 1)


ONE_PASS, TWO_PASSES = PermuteConfig(256, 4096), PermuteConfig(64, 128)
CONFIGS = pytest.mark.parametrize("config", [ONE_PASS, TWO_PASSES], ids=["one", "two"])


@CONFIGS
@pytest.mark.parametrize("tokens", [0, 1, 80])
def test_the_op_without_a_map(config: PermuteConfig, tokens: int) -> None:
    ids = drawn_ids(4 * tokens, 10, seed=tokens)
    found = run_op(PermuteProblem(experts=10, top_k=4, groups=10), config, ids)
    assert found == sorted_slots(ids, 10, 4)


@CONFIGS
@pytest.mark.parametrize("valid", [-3, 0, 33, 80, 2**31 - 1])
def test_padding_has_no_rows(config: PermuteConfig, valid: int) -> None:
    ids = drawn_ids(240, 6, seed=valid)
    padded = [-1 if slot >= 3 * valid else expert for slot, expert in enumerate(ids)]
    found = run_op(PermuteProblem(experts=6, top_k=3, groups=6), config, ids, num_valid=valid)
    assert found == sorted_slots(padded, 6, 3)


@CONFIGS
@pytest.mark.parametrize(("experts", "replicas", "groups"), [(64, 2, 10), (8, 3, 24), (5, 1, 1)])
def test_replicas(config: PermuteConfig, experts: int, replicas: int, groups: int) -> None:
    """Slot d uses replica d % R; padding and ids of no expert do not reach into the map."""
    slot_map = placement(experts, replicas, groups, seed=groups)
    ids = drawn_ids(85 * 5, experts, seed=replicas)
    here = groups_here(ids, slot_map, valid_slots=5 * 70)
    problem = PermuteProblem(experts, 5, groups, replicas)
    found = run_op(problem, config, ids, np.array(slot_map, np.int32), num_valid=70)
    assert found == sorted_slots(here, groups, 5)


def test_a_map_that_names_a_group_too_many_writes_nothing_for_it() -> None:
    slot_map = np.array([[0], [2], [1]], np.int32)
    found = run_op(PermuteProblem(3, 1, 2, 1), ONE_PASS, [0, 1, 2, 1, 0], slot_map)
    assert found == sorted_slots([0, 2, 1, 2, 0], 2, 1)
