"""The MoE layer on a GPU: parity at about full size, graphs, and a host that never waits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from engine import MoE, MoEConfig, MoEWeights, TunedKernels, Workspace
from engine.measuring.layer_oracle import allowed_error
from search_spaces import Numerics, UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from templates import CompilePool
from tests.gpu.compiled import defaults, fill_cache
from tests.gpu.moe_layers import CARD, LAYERS, make_layer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::engine.kernels.NotTunedWarning"),
]
TOKENS = (0, 1, 7, 64, 513, 4096)
ROUTINGS = ("uniform", "skewed", "one")
LARGEST = 65504.0


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory, pool: CompilePool) -> TunedKernels:
    """One for the module: most of a test's time is loading kernels."""
    fill_cache(pool, defaults(part for layer in LAYERS.values() for part in layer.problem.parts))
    return TunedKernels(tmp_path_factory.mktemp("db") / "none.sqlite", CARD)


@pytest.mark.parametrize("family", LAYERS)
def test_layers_answer_what_fp32_answers(family: str, kernels: TunedKernels) -> None:
    """All numbers of tokens and kinds of routing; a token's error is the norm of its row's."""
    plain = make_layer(family, seed=1)
    workspace = Workspace(plain.config.problem, max(TOKENS), CARD)
    for routing in ROUTINGS:
        given = plain.steered(routing)
        layer = MoE(given.config, given.weights, kernels, workspace=workspace)
        for count in TOKENS:
            hidden = given.tokens(count, seed=count)
            out = torch.full_like(hidden, torch.nan)
            layer(hidden, out=out)
            if count == 0:
                continue
            found = workspace.buffers(count).routing
            where = f"{family}, {routing}, {count} tokens"
            assert given.routed_otherwise(hidden, found) <= count // 500, where
            expected = given.expected(hidden, found)
            error = ((out.float() - expected).norm(dim=1) / expected.norm(dim=1)).amax()
            config = kernels.choose_layer(given.config.problem, count).config
            assert error <= allowed_error(given.config.problem, config), where


def test_one_kind_of_routing_sends_all_tokens_to_the_same_experts(kernels: TunedKernels) -> None:
    given = make_layer("olmoe", seed=2).steered("one")
    layer = MoE(given.config, given.weights, kernels, max_tokens=64)
    layer(given.tokens(64, seed=1))
    busy = layer.workspace.buffers(64).routing.offsets.diff().count_nonzero()
    assert busy == given.config.problem.top_k


def test_nothing_waits_and_nothing_is_allocated_after_the_first_call(kernels: TunedKernels) -> None:
    given = make_layer("deepseek_v3", seed=3)
    layer = MoE(given.config, given.weights, kernels, max_tokens=513)
    inputs = [given.tokens(count, seed=count) for count in (1, 7, 64, 513)]
    outputs = [torch.empty_like(hidden) for hidden in inputs]
    for hidden, out in zip(inputs, outputs, strict=True):
        layer(hidden, out=out)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda._sleep(1 << 31)
    done = torch.cuda.Event()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for hidden, out in zip(inputs, outputs, strict=True):
            layer(hidden, out=out)
            layer.nan_seen()
        done.record()
        waiting = not done.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert waiting, "the host came back before the device had begun"
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_a_graph_follows_the_routing(family: str, kernels: TunedKernels) -> None:
    given = make_layer(family, seed=4)
    layer = MoE(given.config, given.weights, kernels, max_tokens=64)
    graphs = {count: layer.capture(count) for count in (1, 7, 64)}
    layer(given.tokens(64, seed=1))
    for seed in range(4):
        for count, graphed in graphs.items():
            hidden = given.tokens(count, seed=seed)
            if seed == 3:
                hidden[:] = hidden[0].clone()  # all of them to the same experts
            graphed.out.fill_(torch.nan)
            found = graphed(hidden).clone()
            assert torch.equal(found, layer(hidden)), (count, seed)
    with pytest.raises(UserError, match=r"is torch\.float32: this graph is of \[64, 2048\]"):
        graphs[64](given.tokens(64, seed=1).float())


def test_the_same_tokens_give_the_same_bits(kernels: TunedKernels) -> None:
    given = make_layer("qwen3_moe", seed=5)
    layer = MoE(given.config, given.weights, kernels)
    hidden = given.tokens(513, seed=1)
    first = layer(hidden)
    assert all(torch.equal(layer(hidden), first) for _ in range(10))


@pytest.mark.parametrize("family", LAYERS)
def test_a_layer_is_three_to_five_launches(family: str, kernels: TunedKernels) -> None:
    given = make_layer(family, seed=6)
    layer = MoE(given.config, given.weights, kernels)
    for count in (1, 4096):
        hidden = given.tokens(count, seed=1)
        out = torch.empty_like(hidden)
        layer(hidden, out=out)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            layer(hidden, out=out)
            torch.cuda.synchronize()
        names = [event.name for event in seen.events() if event.device_type.name == "CUDA"]
        assert 3 <= len(names) <= 5 and all(name.startswith("lm_") for name in names), names


def test_a_nan_is_told_without_waiting(kernels: TunedKernels) -> None:
    given = make_layer("olmoe", seed=7)
    layer = MoE(given.config, given.weights, kernels, max_tokens=8)
    hidden = given.tokens(8, seed=1)
    expected = layer(hidden)
    poisoned = hidden.clone()
    poisoned[3, 5] = torch.nan
    answer = layer(poisoned)
    layer.nan_seen()
    torch.cuda.synchronize()
    assert layer.nan_seen()
    others = [i for i in range(8) if i != 3]
    assert torch.equal(answer[others], expected[others])


def test_large_activations_saturate_as_the_reference_does(
    tmp_path: Path,
) -> None:
    """With sums in fp32: those in fp16 may exceed 65504 on their way."""
    file, problem = (
        tmp_path / "none.sqlite",
        LayerProblem(GateProblem(8, 256, 2), 512, Numerics.FP32),
    )
    generator = torch.Generator().manual_seed(8)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * scale).half()

    tensors = {
        "router": normal(8, 256, scale=0.02),
        "gate_up": normal(8, 1024, 256, scale=2.0),
        "down": normal(8, 256, 512, scale=0.5),
    }
    hidden = normal(100, 256, scale=8.0)
    expected, found = (
        MoE(
            MoEConfig(problem),
            MoEWeights(**{name: tensor.to(device) for name, tensor in tensors.items()}, bias=None),
            TunedKernels(file, device, "fp32"),
        )(hidden.to(device)).cpu()
        for device in (torch.device("cpu"), CARD)
    )
    assert found.isfinite().all() and (found.abs() == LARGEST).any()
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=200.0)


def test_a_compiled_layer_answers_as_it_does_itself(kernels: TunedKernels) -> None:
    given = make_layer("qwen2_moe", seed=9)
    layer = MoE(given.config, given.weights, kernels)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    hidden = given.tokens(33, seed=1)
    assert torch.equal(compiled(hidden), layer(hidden))
