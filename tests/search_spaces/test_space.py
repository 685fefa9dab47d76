"""SearchSpace against brute force: itertools.product and explain, nothing else."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Parameter, SearchSpace, SpaceView, UserError, space_for
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from tests.search_spaces.spaces import BRICKS, MIXTRAL, TURING, Brick, reduced

SMALL_GEMM = reduced(
    tile_m=(16, 128),
    warps_m=(1, 2),
    tile_n=(32, 128),
    warps_n=(2, 8),
    tile_k=(32, 64),
    warps_k=(1, 4),
    min_ctas=(1, 3),
    k_step=(16,),
    fragments=(1, 2),
    acc=("f32", "f16", "f16p4"),
    smem=("none", "sw3.3.3"),
    stages=(2, 4),
    split_k=(1, 8),
    cache=("ca",),
    group_m=(4,),
)
SPACES = [BRICKS, SMALL_GEMM]
by_op = pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space.op))


def brute_force(space: SearchSpace) -> list[Any]:
    """Every combination of values that breaks no rule, in the order of itertools.product."""
    view = space.view(MIXTRAL, TURING)
    names = [p.name for p in space.parameters]
    combinations = itertools.product(*(p.values for p in space.parameters))
    configs = [space.config_type(**dict(zip(names, c, strict=True))) for c in combinations]
    return [config for config in configs if not view.explain(config)]


@pytest.fixture(scope="module", params=SPACES, ids=lambda space: str(space.op))
def both(request: pytest.FixtureRequest) -> tuple[SpaceView, list[Any]]:
    space: SearchSpace = request.param
    return space.view(MIXTRAL, TURING), brute_force(space)


def test_enumeration_is_brute_force(both: tuple[SpaceView, list[Any]]) -> None:
    view, expected = both
    assert len(expected) > 10
    assert view.count == len(expected)
    assert list(view) == expected
    assert [view.at(i) for i in range(view.count)] == expected
    for outside in (-1, view.count):
        with pytest.raises(IndexError):
            view.at(outside)


def test_bricks_counted_by_hand() -> None:
    # (width, height) of area <= 12: 3 + 3 + 2 + 1. Red ones are solid: 9. Grey and white may be
    # hollow unless one wide: 2 x (9 + 6).
    assert BRICKS.view(MIXTRAL, TURING).count == 9 + 2 * (9 + 6)


def test_samples_are_uniform() -> None:
    view = BRICKS.view(MIXTRAL, TURING)
    rng, draws = random.Random(5), 200 * view.count
    seen = Counter(view.sample(rng) for _ in range(draws))
    assert set(seen) == set(brute_force(BRICKS))
    chi_square = sum((n - 200) ** 2 / 200 for n in seen.values())
    assert chi_square < 72  # 38 degrees of freedom: exceeded once in a thousand seeds


def test_samples_of_a_large_space_are_valid_and_spread() -> None:
    view = GROUPED_GEMM.view(replace(MIXTRAL, combine="any"), TURING)
    rng = random.Random(2)
    drawn = [view.sample(rng) for _ in range(300)]
    assert all(view.explain(config) == [] for config in drawn)
    assert len(set(drawn)) == 300
    for parameter in GROUPED_GEMM.parameters:
        values = {getattr(config, parameter.name) for config in drawn}
        assert len(values) > 1, parameter.name


@by_op
def test_neighbours_differ_by_one_step_and_go_both_ways(space: SearchSpace) -> None:
    view = space.view(MIXTRAL, TURING)
    rng = random.Random(3)
    for config in (view.sample(rng) for _ in range(20)):
        for near in view.neighbours(config):
            changed = [
                p for p in space.parameters if getattr(config, p.name) != getattr(near, p.name)
            ]
            assert len(changed) == 1
            assert view.explain(near) == []
            assert config in view.neighbours(near)


def test_neighbours_of_a_brick_by_hand() -> None:
    view = BRICKS.view(MIXTRAL, TURING)
    assert set(view.neighbours(Brick(2, 3, "grey", False))) == {
        Brick(1, 3, "grey", False),
        Brick(4, 3, "grey", False),
        Brick(2, 1, "grey", False),
        Brick(2, 5, "grey", False),
        Brick(2, 3, "red", False),
        Brick(2, 3, "white", False),
        Brick(2, 3, "grey", True),
    }


def test_parameter_steps() -> None:
    tile = Parameter("tile", (8, 16, 64))
    assert [tile.neighbours(v) for v in tile.values] == [(16,), (8, 64), (16,)]
    assert Parameter("name", ("a", "b", "c")).neighbours("b") == ("a", "c")
    assert Parameter("flag", (False, True)).neighbours(True) == (False,)


def test_default_is_the_first_valid_preference() -> None:
    assert BRICKS.view(MIXTRAL, TURING).default() == Brick(2, 3, "grey", False)
    hopeless = replace(BRICKS, preferred=lambda problem: (Brick(8, 5, "red", True),))
    assert hopeless.view(MIXTRAL, TURING).default() == brute_force(BRICKS)[0]


def test_explain_names_rule_and_values() -> None:
    view = BRICKS.view(MIXTRAL, TURING)
    assert [str(v) for v in view.explain(Brick(8, 5, "red", True))] == [
        "area: area 40 exceeds 12",
        "red: red bricks are not hollow",
    ]
    [outside] = view.explain(Brick(3, 1, "grey", False))
    assert outside.constraint == "values"
    assert "width=3" in outside.reason
    assert "(1, 2, 4, 8)" in outside.reason


def proposals(space: SearchSpace) -> st.SearchStrategy[Any]:
    values = {p.name: st.sampled_from(p.values) for p in space.parameters}
    return st.builds(space.config_type, **values)


@given(proposals(GROUPED_GEMM))
@settings(deadline=None)
def test_explain_answers_for_any_proposal(config: Any) -> None:
    reasons = GROUPED_GEMM.view(MIXTRAL, TURING).explain(config)
    assert all(r.constraint and r.reason for r in reasons)


@given(st.data(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_snap_gives_a_valid_untried_config(data: st.DataObject, seed: int) -> None:
    space = data.draw(st.sampled_from(SPACES))
    view = space.view(MIXTRAL, TURING)
    config = data.draw(proposals(space))
    tried = set(random.Random(seed).sample(brute_force(BRICKS), 38))
    snapped = view.snap(config, tried, random.Random(seed))
    assert snapped is not None
    assert view.explain(snapped) == []
    assert snapped not in tried
    if not view.explain(config) and config not in tried:
        assert snapped == config


def test_snap_finds_the_last_config_and_then_none() -> None:
    view = BRICKS.view(MIXTRAL, TURING)
    everything = brute_force(BRICKS)
    proposal = Brick(8, 5, "red", True)
    for last in everything[::7]:
        assert view.snap(proposal, set(everything) - {last}, random.Random(0)) == last
    assert view.snap(proposal, set(everything), random.Random(0)) is None


def test_snap_exhausts_a_space_too_large_for_luck() -> None:
    view, rng = SMALL_GEMM.view(MIXTRAL, TURING), random.Random(4)
    assert view.count > 100
    tried: set[Any] = set()
    while (config := view.snap(view.sample(rng), tried, rng)) is not None:
        assert config not in tried
        tried.add(config)
    assert len(tried) == view.count


@pytest.mark.parametrize(
    ("limit", "culprit"),
    [
        ({"smem_per_block": 1024}, "shared_memory"),
        ({"regs_per_sm": 1024}, "registers"),
        ({"max_threads_per_sm": 16}, "occupancy"),
    ],
)
def test_an_empty_space_names_the_rule_that_empties_it(limit: dict[str, Any], culprit: str) -> None:
    view = SMALL_GEMM.view(MIXTRAL, replace(TURING, **limit))
    assert view.count == 0
    assert list(view) == []
    with pytest.raises(UserError, match=f"no valid grouped_gemm config.*emptied by {culprit}$"):
        view.require()
    with pytest.raises(UserError, match=culprit):
        view.sample(random.Random(0))
    with pytest.raises(UserError, match=culprit):
        view.default()


def test_unknown_op_names_the_ops() -> None:
    assert space_for("grouped_gemm") is GROUPED_GEMM
    with pytest.raises(UserError, match="unknown op 'gemm': choose one of grouped_gemm"):
        space_for("gemm")
