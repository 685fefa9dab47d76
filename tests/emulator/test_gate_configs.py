"""The router fused with the choice: every value of every parameter, emulated against torch."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from search_spaces import find_gpu, space_for
from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from templates import Built, CompilePool
from templates.fused_gate import render
from tests.emulator.gates import PTX_ONLY
from tuner.emulated_gate import check_gate
from tuner.small_gate import SmallGate, small_gate

SPACE, WIDEST = space_for("fused_gate"), find_gpu("H200")
# Whole tiles; tails in E and H; a type that no tensor core of sm_75 knows; nothing to multiply.
PROBLEMS = {
    "whole": GateProblem(160, 4096, 8, renormalise=True),
    "tails": GateProblem(60, 4104, 4, shared=4, shared_gate=True),
    "wide": GateProblem(300, 4096, 6, "bf16", "sigmoid", bias=True, renormalise=True),
    "single": GateProblem(20, 4104, 3, "f32", groups=4, topk_group=2, group_score="top2"),
    "deep": GateProblem(256, 4096, 8, score="sigmoid", bias=True, groups=8, topk_group=4),
    "given": GateProblem(96, 0, 6, "f16", "sigmoid"),
}
DRAWS = 400
Value = tuple[str, str, Any]  # of a parameter, with a router


def values(config: GateConfig) -> set[Value]:
    return {(config.router, p.name, getattr(config, p.name)) for p in SPACE.parameters}


@cache
def cases() -> list[tuple[GateProblem, GateConfig]]:
    """Greedy: again and again the config with the most new values, small blocks first."""
    rng = random.Random(5)
    pool = []
    for problem in PROBLEMS.values():
        view = SPACE.view(problem, WIDEST)
        pool += [(problem, view.sample(rng)) for _ in range(DRAWS)]
    pool.sort(key=lambda case: case[1].tile_t * case[1].tile_e)
    wanted = set().union(*(values(config) for _, config in pool))
    chosen = []
    while wanted:
        best = max(pool, key=lambda case: len(values(case[1]) & wanted))
        chosen.append(best)
        wanted -= values(best[1])
    return chosen


def test_the_cases_hold_every_value_of_every_parameter() -> None:
    shown = set().union(*(values(config) for _, config in cases()))
    assert {router for router, _, _ in shown} == {"none", "fma", "mma"}
    for parameter in SPACE.parameters:
        assert {v for _, name, v in shown if name == parameter.name} == set(parameter.values)


def small_cases() -> list[tuple[SmallGate, GateConfig]]:
    return [(small_gate(problem, config), config) for problem, config in cases()]


def test_a_small_problem_keeps_the_config_valid() -> None:
    for small, config in small_cases():
        assert SPACE.view(small.problem, WIDEST).explain(config) == [], (small, config)


def test_every_value_agrees_with_torch(pool: CompilePool) -> None:
    some = small_cases()
    variants = [render(small.problem, config) for small, config in some]
    for number, built in enumerate(pool.build(variants, PTX_ONLY)):
        small, config = some[number]
        assert isinstance(built, Built), built
        found = check_gate(small.problem, config, built, small.tokens, seed=number)
        assert found.ok, f"{config} on {small.problem}: {found.reason}"
