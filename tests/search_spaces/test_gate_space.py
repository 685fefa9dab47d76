"""fused_gate's search space: no config twice, experts on lanes once each, a default for all."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from search_spaces import GPUS, find_gpu, space_for
from search_spaces.errors import UserError
from search_spaces.gate import GateConfig
from search_spaces.gate_cost import predict_gate
from search_spaces.gate_layout import lane_share, parts, smem_bytes
from search_spaces.gate_problem import GateProblem

SPACE, H100, TURING = space_for("fused_gate"), find_gpu("H100"), find_gpu("RTX 2080 Ti")
QWEN = GateProblem(128, 2048, 8, renormalise=True)
PROBLEMS = [
    QWEN,
    replace(QWEN, hidden=0),
    GateProblem(1, 8, 1),
    GateProblem(2, 0, 1),
    GateProblem(7, 64, 7, "bf16"),
    GateProblem(8, 4096, 2, renormalise=True),
    GateProblem(60, 2048, 4, shared=4, shared_gate=True),
    GateProblem(64, 3584, 8, "f32"),
    GateProblem(160, 5120, 6, groups=8, topk_group=3),
    GateProblem(256, 7168, 8, "bf16", "sigmoid", True, 8, 4, "top2", True, 1),
    GateProblem(2048, 7168, 32),
    GateProblem(2048, 0, 32, "f32"),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.key)
def test_every_gpu_has_a_valid_default(problem: GateProblem) -> None:
    for gpu in GPUS:
        view = SPACE.view(problem, gpu)
        default = view.default()
        assert view.explain(default) == []
        # one token in 16 and more share a read of the router, where shared memory has room
        assert default.tile_t >= (8 if problem.hidden else 1)
        assert smem_bytes(problem, default) <= gpu.smem_per_block


@pytest.mark.parametrize("problem", [PROBLEMS[1], PROBLEMS[3]], ids=lambda p: p.key)
def test_given_logits_have_no_router_parameters(problem: GateProblem) -> None:
    configs = list(SPACE.view(problem, H100))
    kept = {(c.tile_t, c.warps_t, c.lanes, c.tail) for c in configs}
    assert len(kept) == len(configs) > 10


def test_a_config_without_stages_is_there_once() -> None:
    view = SPACE.view(replace(QWEN, dtype="bf16"), H100)
    rng = random.Random(0)
    some = [view.sample(rng) for _ in range(200)]
    assert {(c.router, c.stages, c.swap) for c in some} == {("fma", 1, False)}


def test_names_read_back() -> None:
    rng = random.Random(1)
    for problem in PROBLEMS:
        view = SPACE.view(problem, H100)
        for config in (view.sample(rng) for _ in range(30)):
            assert GateConfig.parse(str(config)) == config
    with pytest.raises(UserError, match=r"'mma8' is no fused_gate config: expected e\.g\. mma"):
        GateConfig.parse("mma8")


@pytest.mark.parametrize("lanes", [4, 8, 16, 32])
def test_lanes_have_every_expert_once_and_in_order(lanes: int) -> None:
    for experts, groups in [(1, 1), (7, 1), (60, 1), (160, 8), (27, 3), (48, 48), (2048, 1)]:
        problem = GateProblem(experts, 0, 1, groups=groups, topk_group=1)
        share, size = lane_share(problem, lanes), experts // groups
        had = []
        for lane in range(lanes):
            group = lane // share.group_lanes * share.lane_groups
            within = lane % share.group_lanes * share.share
            for item in range(share.items):
                g, e = group + item // share.share, within + item % share.share
                if g < groups and e < size:
                    had.append(g * size + e)
        assert had == list(range(experts)), (experts, groups)


def test_split_counts_share_machine_code() -> None:
    config = GateConfig.parse("mma16x64x64_w1x4x1_s2_te_k8_l8_last")
    assert config.compile_key == replace(config, split=2).compile_key
    assert config.compile_key != replace(config, split=1).compile_key
    assert parts(QWEN, config) == 16


def best(problem: GateProblem, tokens: int) -> GateConfig:
    view, rng = SPACE.view(problem, H100), random.Random(3)
    some = [view.sample(rng) for _ in range(1500)]
    chosen = min(some, key=lambda c: predict_gate(problem, c, H100, tokens).total_us)
    assert isinstance(chosen, GateConfig)
    return chosen


def test_the_cost_model_wants_other_configs_for_other_numbers_of_tokens() -> None:
    few, many = best(QWEN, 1), best(QWEN, 8192)
    assert few.tail == "last" and many.tail == "pass"
    assert parts(QWEN, few) > 8  # one token: the router is read by many CTAs
    assert many.router == "mma" and many.tile_t >= 64
    for tokens, good, bad in ((1, few, many), (8192, many, few)):
        times = [predict_gate(QWEN, c, H100, tokens).total_us for c in (good, bad)]
        assert 2 * times[0] < times[1]


def test_predictions_respect_the_memory_and_grow_with_tokens() -> None:
    rng = random.Random(4)
    for problem in PROBLEMS:
        view = SPACE.view(problem, TURING)
        for config in (view.sample(rng) for _ in range(20)):
            some = [predict_gate(problem, config, TURING, tokens) for tokens in (512, 4096, 32768)]
            times = [one.total_us for one in some]
            assert times[0] <= 1.01 * times[1] and times[1] <= 1.01 * times[2]
            floor = problem.traffic(32768) / (TURING.dram_gbps * 1e3)
            assert times[2] > floor
            assert some[2].limiter in ("dram", "l2", "tensor", "issue", "latency", "overhead")
