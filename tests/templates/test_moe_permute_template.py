"""moe_permute: which config and passes a number of tokens gets, and what the machine code takes."""

from __future__ import annotations

import pytest

from search_spaces.errors import UserError
from search_spaces.permute_config import PermuteConfig, permute_config
from search_spaces.permute_problem import MOST_GROUPS, PermuteProblem
from templates import Built, CompilePool, Target, launch_shape, render
from templates.moe_permute import HEADERS

QWEN = PermuteProblem(experts=128, top_k=8, groups=128)
WIDEST = PermuteProblem(experts=MOST_GROUPS, top_k=8, groups=MOST_GROUPS)


@pytest.mark.parametrize(
    ("problem", "tokens", "chunk", "grids"),
    [
        (QWEN, 0, 1024, [1]),
        (QWEN, 1, 1024, [1]),
        (QWEN, 128, 1024, [1]),
        (QWEN, 129, 4096, [1]),
        (QWEN, 512, 4096, [1]),
        (QWEN, 513, 1024, [5, 5]),
        (QWEN, 8192, 1024, [64, 64]),
        (WIDEST, 8192, 4096, [16, 16]),
    ],
)
def test_one_pass_as_long_as_a_chunk_holds_all(
    problem: PermuteProblem, tokens: int, chunk: int, grids: list[int]
) -> None:
    config = permute_config(problem, tokens)
    assert config == PermuteConfig(256, chunk)
    shape = launch_shape(problem, config, tokens)
    assert [each.grid for each in shape.passes] == [(grid, 1, 1) for grid in grids]
    assert [int(each.scalars[-1]) for each in shape.passes] == list(range(len(grids)))
    histograms = 4 * grids[0] * problem.groups
    assert shape.workspace_bytes == (histograms if len(grids) == 2 else 0)
    assert shape.counters == 0


def test_machine_code_is_the_same_for_all_problems_and_spills_nothing() -> None:
    variants = {render(p, PermuteConfig(256, c)) for p in (QWEN, WIDEST) for c in (1024, 4096)}
    assert len(variants) == 2
    with CompilePool(workers=1) as pool:
        for built in pool.build(sorted(variants, key=str), Target.for_tier("sm_75")):
            assert isinstance(built, Built), built
            report = built.binaries["sm_75"].resources
            assert report.spill_stores == report.spill_loads == report.stack == 0
            # Turing has 64 KB of shared memory a CTA, 48 of them without asking.
            assert built.variant.smem_bytes <= 48 * 1024
            assert built.variant.headers == HEADERS


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 33}, "top_k=33"),
        ({"experts": 0, "groups": 0}, "E=0"),
        ({"groups": 3000, "replicas": 1}, "groups=3000"),
        ({"groups": 4}, "give a slot_map"),
        ({"replicas": -1}, "replicas=-1"),
    ],
)
def test_sizes_that_no_kernel_has(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PermuteProblem(**{"experts": 8, "top_k": 2, "groups": 8, **sizes})


def test_keys() -> None:
    assert QWEN.key == "moe_permute/E128.top8.G128"
    assert str(PermuteProblem(64, 6, 10, 2)) == "moe_permute/E64.top6.G10.R2"
