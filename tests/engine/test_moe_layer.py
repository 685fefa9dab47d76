"""The layer around its kernels: memory, pieces, NaN, large numbers, input that cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from engine import TunedKernels
from engine.layers import MoE, MoEConfig, MoEWeights, Workspace
from search_spaces import Numerics, UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from tests.engine.moe_families import HIDDEN, Case, make_case

CPU = torch.device("cpu")
LARGEST = 65504.0


@pytest.fixture
def kernels(tmp_path: Path) -> TunedKernels:
    return TunedKernels(tmp_path / "none.sqlite", "cpu")


@pytest.fixture
def case() -> Case:
    return make_case("deepseek_v2", "uniform", seed=31)


def test_any_leading_dimensions(case: Case, kernels: TunedKernels) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels)
    hidden = case.tokens(24, seed=1)
    expected = layer(hidden)
    assert torch.equal(layer(hidden.view(2, 3, 4, HIDDEN)).view(24, HIDDEN), expected)
    assert torch.equal(layer(hidden[5]), expected[5])
    assert layer(hidden[:0].view(3, 0, HIDDEN)).shape == (3, 0, HIDDEN)


def test_more_tokens_than_fit_are_taken_in_pieces(case: Case, kernels: TunedKernels) -> None:
    small = MoE.from_hf(case.state, case.config, kernels, max_tokens=10)
    whole = MoE.from_hf(case.state, case.config, kernels)
    hidden = case.tokens(33, seed=2)
    assert torch.equal(small(hidden), whole(hidden))


def test_a_layer_follows_what_its_router_chose(tmp_path: Path) -> None:
    """Even routing beside shared experts is even; and what it learns is a step's own."""
    problem = LayerProblem(GateProblem(8, HIDDEN, 1, shared=2), 8)
    directions = torch.eye(8, HIDDEN)
    weights = MoEWeights(
        router=directions.half(),
        gate_up=torch.ones(10, 16, HIDDEN).half(),
        down=torch.ones(10, HIDDEN, 8).half(),
        bias=None,
    )
    kernels = TunedKernels(tmp_path / "none.sqlite", "cpu", skew="auto")
    even, steep = directions.half().repeat(64, 1), directions[:1].half().repeat(512, 1)
    for hidden, kind in ((even, "uniform"), (steep, "zipf")):
        layer = MoE(MoEConfig(problem), weights, kernels)
        layer(hidden)
        assert layer.loads is not None and layer.loads.skew.kind == kind


def test_layers_share_a_workspace(case: Case, kernels: TunedKernels) -> None:
    config = MoEConfig.from_hf(case.config)
    workspace = Workspace(config.problem, 16, CPU)
    other = make_case("deepseek_v2", "uniform", seed=32)
    layers = [MoE.from_hf(c.state, config, kernels, workspace=workspace) for c in (case, other)]
    hidden = case.tokens(16, seed=3)
    together = [layer(hidden) for layer in layers]
    alone = [MoE.from_hf(c.state, config, kernels)(hidden) for c in (case, other)]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(*together)


def test_the_workspace_is_allocated_once(case: Case, kernels: TunedKernels) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels, max_tokens=64)
    begins = {t: layer.workspace.buffers(t).routing.layout.pointers for t in (1, 7, 64)}
    assert begins[1] == begins[7] == begins[64]
    assert layer.workspace.buffers(7) is layer.workspace.buffers(7)


def test_a_nan_is_told_by_the_next_copy_but_one(case: Case, kernels: TunedKernels) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels)
    hidden = case.tokens(8, seed=4)
    layer(hidden)
    assert [layer.nan_seen() for _ in range(2)] == [False, False]
    poisoned = hidden.clone()
    poisoned[3, 5] = torch.nan
    answer = layer(poisoned)
    assert [layer.nan_seen() for _ in range(2)] == [False, True]
    others = [i for i in range(8) if i != 3]
    assert torch.equal(answer[others], layer(hidden)[others])
    assert layer.nan_seen(), "a later step without a NaN does not take it back"
    layer.workspace.clear_nan()
    assert [layer.nan_seen() for _ in range(2)] == [True, False]


def test_a_nan_leaves_ids_valid_and_distinct(case: Case, kernels: TunedKernels) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels)
    layer(torch.full((4, HIDDEN), torch.nan).half())
    for ids in layer.workspace.buffers(4).routing.ids.tolist():
        assert len(set(ids)) == len(ids) and set(ids) <= set(range(18))


def test_values_beyond_fp16_saturate_and_are_never_infinite(kernels: TunedKernels) -> None:
    """Activations, weighted rows and their sums: each against the rule, in fp64."""
    problem = LayerProblem(GateProblem(4, HIDDEN, 2, shared=1), 40)
    generator = torch.Generator().manual_seed(33)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * scale).half()

    weights = MoEWeights(
        router=normal(4, HIDDEN, scale=0.02),
        gate_up=normal(5, 80, HIDDEN, scale=6.0),
        down=normal(5, HIDDEN, 40, scale=1.0),
        bias=None,
    )
    layer = MoE(MoEConfig(problem, scaling=1.5), weights, kernels)
    hidden = normal(50, HIDDEN, scale=6.0)
    found = layer(hidden)
    routing = layer.workspace.buffers(50).routing
    expected, beyond = _saturated(hidden, weights, routing.ids, routing.weights)
    assert beyond["activations"] > 0.01 and beyond["rows"] > 0.01 and beyond["sums"] > 0.01
    assert found.isfinite().all() and (found.abs() == LARGEST).any()
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=100.0)


def _saturated(
    hidden: torch.Tensor, weights: MoEWeights, ids: torch.Tensor, factors: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, float]]:
    """[T, H] in fp64 with every intermediate held to +-65504, and the share of each that was."""
    assert factors is not None
    gate, up = weights.gate_up.double().unflatten(1, (-1, 2, 8)).unbind(2)
    beyond: dict[str, list[torch.Tensor]] = {"activations": [], "rows": [], "sums": []}

    def held(name: str, values: torch.Tensor) -> torch.Tensor:
        beyond[name].append(values.abs() > LARGEST)
        return values.clamp(-LARGEST, LARGEST)

    sums = []
    for token, experts, its_factors in zip(hidden.double(), ids, factors, strict=True):
        rows = []
        for expert, factor in zip(experts.tolist(), its_factors.double(), strict=True):
            gates, ups = (half[expert].flatten(0, 1) @ token for half in (gate, up))
            activation = held("activations", torch.nn.functional.silu(gates) * ups)
            rows.append(held("rows", factor * (weights.down[expert].double() @ activation)))
        sums.append(held("sums", torch.stack(rows).sum(dim=0)))
    return torch.stack(sums), {n: float(torch.stack(m).double().mean()) for n, m in beyond.items()}


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (torch.zeros(3, 56).half(), "hidden has shape [3, 56]: its last dimension must be the"),
        (torch.zeros(()).half(), "hidden has shape []: its last dimension must be the"),
        (torch.zeros(3, HIDDEN), "x is torch.float32: must be torch.float16"),
        (torch.zeros(HIDDEN, 3).half().T, "hidden has strides [1, 3]: must be contiguous"),
        (torch.zeros(3, HIDDEN, dtype=torch.half, device="meta"), "x is on meta: must be on cpu"),
    ],
)
def test_hidden_states_that_cannot_be(
    hidden: torch.Tensor, message: str, case: Case, kernels: TunedKernels
) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels)
    with pytest.raises(UserError, match=re.escape(message)):
        layer(hidden)


def test_an_out_that_cannot_be(case: Case, kernels: TunedKernels) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels)
    hidden = case.tokens(3, seed=5)
    with pytest.raises(UserError, match=r"out has shape \[4, 64\] and .*: must be \[3, 64\] and"):
        layer(hidden, out=hidden.new_empty(4, HIDDEN))
    with pytest.raises(UserError, match=r"out is torch.float32: must be torch.float16"):
        layer(hidden, out=hidden.new_empty(3, HIDDEN, dtype=torch.float32))
    crossed = hidden.new_empty(3, 2, HIDDEN).transpose(0, 1)
    with pytest.raises(UserError, match=r"strides \[64, 128, 1\]: must be \[2, 3, 64\] and cont"):
        layer(hidden.expand(2, 3, HIDDEN).contiguous(), out=crossed)


def test_hidden_states_that_want_a_gradient(case: Case, kernels: TunedKernels) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels)
    hidden = case.tokens(3, seed=6).requires_grad_()
    with pytest.raises(UserError, match="x or router requires a gradient"):
        layer(hidden)
    with torch.no_grad():
        assert layer(hidden).isfinite().all()


def test_parts_that_do_not_belong_together(case: Case, tmp_path: Path) -> None:
    config = MoEConfig.from_hf(case.config)
    exact = TunedKernels(tmp_path / "none.sqlite", "cpu", "fp32")
    with pytest.raises(UserError, match="has promoted numerics and these kernels fp32"):
        MoE.from_hf(case.state, config, exact)
    other = MoEConfig.from_hf(make_case("mixtral", "uniform", seed=1).config, Numerics.FP32)
    workspace = Workspace(other.problem, 4, CPU)
    with pytest.raises(UserError, match=r"the workspace is for moe_layer/.*E8.*: moe_layer/.*E16"):
        MoE.from_hf(case.state, case.config, exact, workspace=workspace)
    with pytest.raises(UserError, match="max_tokens=0: must be at least 1"):
        MoE.from_hf(case.state, case.config, exact, max_tokens=0)
    with pytest.raises(UserError, match="a layer on cpu cannot be captured"):
        MoE.from_hf(case.state, case.config, exact).capture(1)
