"""torch.ops.light_moe: what torch's own checks, torch.compile and torch.export make of the ops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine import MoE, TunedKernels
from engine.ops import handle_of, kernels_of
from search_spaces import UserError
from search_spaces.gate_problem import GateProblem
from tests.engine.moe_families import HIDDEN, make_case
from tests.engine.test_reference import tensors

GATE = GateProblem(8, HIDDEN, 2, bias=True, shared=1)
LOGITS = GateProblem(12, 0, 3, dtype="f32", groups=3, topk_group=2)


@pytest.fixture
def kernels(tmp_path: Path) -> TunedKernels:
    return TunedKernels(tmp_path / "none.sqlite", "cpu")


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gate_arguments(kernels: TunedKernels, problem: GateProblem) -> tuple[Any, ...]:
    flag = torch.zeros(1, dtype=torch.int32)
    if not problem.hidden:
        return normal(5, 12), None, None, flag, problem.key, 1.0, handle_of(kernels)
    given = normal(5, HIDDEN).half(), normal(8, HIDDEN).half(), normal(8)
    return *given, flag, problem.key, 2.5, handle_of(kernels)


@pytest.mark.parametrize("problem", [GATE, LOGITS], ids=str)
def test_fused_gate_keeps_torchs_rules(kernels: TunedKernels, problem: GateProblem) -> None:
    torch.library.opcheck(torch.ops.light_moe.fused_gate, gate_arguments(kernels, problem))


@pytest.mark.parametrize("way", ["plain", "gathered", "combined"])
def test_grouped_gemm_keeps_torchs_rules(kernels: TunedKernels, way: str) -> None:
    a, b, offsets = tensors([3, 0, 5], 32, 40, seed=2)
    rows = torch.arange(8, dtype=torch.int32) // 2
    slots = torch.randperm(8, generator=torch.Generator().manual_seed(3)).int()
    routed: dict[str, tuple[Any, ...]] = {
        "plain": (a, b, offsets, None, None, None, "plain", "", 2),
        "gathered": (a[:4].clone(), b, offsets, rows, None, None, "swiglu", "", 2),
        "combined": (a, b, offsets, None, slots, normal(4, 2), "plain", "ordered", 2),
    }
    torch.library.opcheck(torch.ops.light_moe.grouped_gemm, (*routed[way], handle_of(kernels)))


@pytest.mark.parametrize("mapped", [False, True])
def test_moe_permute_keeps_torchs_rules(kernels: TunedKernels, mapped: bool) -> None:
    ids = normal(9, 6).argsort(dim=1)[:, :2].int().contiguous()
    slot_map = normal(6, 2).argsort(dim=0).int() % 3 if mapped else None
    arguments = ids, slot_map, None, 6, 3 if mapped else 6, handle_of(kernels)
    torch.library.opcheck(torch.ops.light_moe.moe_permute, arguments)


def test_ops_answer_what_the_kernels_answer(kernels: TunedKernels) -> None:
    x, router, bias, flag, key, scaling, handle = gate_arguments(kernels, GATE)
    found = torch.ops.light_moe.fused_gate(x, router, bias, flag, key, scaling, handle)
    routing = kernels.fused_gate(x, router, problem=GATE, bias=bias, scaling=scaling)
    names = ("ids", "weights", "offsets", "rows", "slots", "inverse")
    assert all(torch.equal(t, getattr(routing, n)) for t, n in zip(found, names, strict=True))
    ids = found[0][:, :2].contiguous()
    offsets, rows, _, _ = torch.ops.light_moe.moe_permute(ids, None, None, 8, 8, handle)
    assert offsets[-1] == 10 and torch.equal(rows, ids.flatten().argsort(stable=True) // 2)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v3"])
def test_a_layer_compiles_whole(family: str, backend: str, kernels: TunedKernels) -> None:
    case = make_case(family, "uniform", seed=41)
    layer = MoE.from_hf(case.state, case.config, kernels)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    with torch.inference_mode():
        for count in (6, 6, 33):
            hidden = case.tokens(count, seed=count)
            assert torch.equal(compiled(hidden), layer(hidden))
        poisoned = torch.full((6, HIDDEN), torch.nan).half()
        compiled(poisoned)
    assert [layer.nan_seen() for _ in range(2)] == [False, True]


def test_a_layer_exports_for_any_number_of_tokens(kernels: TunedKernels) -> None:
    case = make_case("mixtral", "uniform", seed=42)
    layer = MoE.from_hf(case.state, case.config, kernels)
    tokens = torch.export.Dim("tokens", min=2, max=4096)
    hidden = case.tokens(5, seed=1)
    with torch.no_grad():
        program = torch.export.export(layer, (hidden,), dynamic_shapes={"hidden": {0: tokens}})
        exported = program.module()
        for count in (5, 70):
            hidden = case.tokens(count, seed=count)
            assert torch.equal(exported(hidden), layer(hidden))
    targets = {str(node.target) for node in program.graph.nodes}
    assert {"light_moe.fused_gate.default", "light_moe.grouped_gemm.default"} <= targets


def test_handles_stand_for_kernels(kernels: TunedKernels) -> None:
    handle = handle_of(kernels)
    assert handle == handle_of(kernels) and kernels_of(handle) is kernels
    with pytest.raises(UserError, match="no kernels have handle 12345 in this process"):
        kernels_of(12345)
