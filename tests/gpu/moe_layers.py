"""MoE layers of about the published sizes on a GPU, and what they should answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine import MoEConfig, MoEWeights
from engine.kernels.routing import Routing
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from templates.gate_reference import gate_reference
from templates.glu import glu

CARD = torch.device("cuda", 0)
_V3 = GateProblem(
    64, 2048, 8, score="sigmoid", bias=True, groups=8, topk_group=4, group_score="top2",
    renormalise=True, shared=1,
)  # fmt: skip
# Gates as in the models; experts of Mixtral and DeepSeek-V3 are smaller, so that all fit any card.
LAYERS = {
    "mixtral": MoEConfig(LayerProblem(GateProblem(8, 2048, 2, renormalise=True), 3584)),
    "qwen2_moe": MoEConfig(
        LayerProblem(GateProblem(60, 2048, 4, shared=4, shared_gate=True), 1408)
    ),
    "qwen3_moe": MoEConfig(LayerProblem(GateProblem(128, 2048, 8, renormalise=True), 768)),
    "olmoe": MoEConfig(LayerProblem(GateProblem(64, 2048, 8), 1024)),
    "deepseek_v2": MoEConfig(
        LayerProblem(GateProblem(64, 2048, 6, groups=8, topk_group=3, shared=2), 1408), 16.0
    ),
    "deepseek_v3": MoEConfig(LayerProblem(_V3, 1024), 2.5),
}
_STEPS = {"uniform": 0.0, "skewed": 0.1, "one": 10.0}  # logits are ~ N(0, 1)


@dataclass(frozen=True)
class Layer:
    """Weights, and what all tokens have in common."""

    config: MoEConfig
    weights: MoEWeights
    common: torch.Tensor

    def tokens(self, count: int, seed: int) -> torch.Tensor:
        """fp16 [count, H] on the card."""
        generator = torch.Generator(CARD).manual_seed(seed)
        noise = torch.randn(count, self.config.problem.hidden, generator=generator, device=CARD)
        return (noise + self.common).half()

    def steered(self, routing: str) -> Layer:
        """The layer whose router prefers low experts: not, somewhat, or to the exclusion of others.

        Biases of sigmoids do the latter, which end at 1.
        """
        gate, step = self.config.problem.gate, _STEPS[routing]
        ranks = torch.arange(gate.experts, device=CARD)
        router = self.weights.router.clone()
        pull = (step * ranks)[:, None] * self.common / self.common.square().sum()
        router[: gate.experts] -= pull.half()
        bias = None if self.weights.bias is None else self.weights.bias - step * ranks
        weights = MoEWeights(router, self.weights.gate_up, self.weights.down, bias)
        return Layer(self.config, weights, self.common)

    def expected(self, hidden: torch.Tensor, routing: Routing) -> torch.Tensor:
        """[T, H] fp32, expert by expert, for the ids and weights that a gate has found."""
        assert routing.weights is not None
        sums = torch.zeros(hidden.shape, device=CARD)
        for expert in range(self.config.problem.experts):
            tokens, slots = torch.nonzero(routing.ids == expert, as_tuple=True)
            gate_up, down = (w[expert].float() for w in (self.weights.gate_up, self.weights.down))
            activations = glu(hidden[tokens].float() @ gate_up.T, self.config.problem.epilogue)
            share = routing.weights[tokens, slots, None]
            sums.index_add_(0, tokens, share * (activations @ down.T))
        return sums

    def routed_otherwise(self, hidden: torch.Tensor, routing: Routing) -> int:
        """Tokens whose ids are not those of the torch reference."""
        weights, problem = self.weights, self.config.problem.gate
        ids, _ = gate_reference(problem, hidden, weights.router, weights.bias, self.config.scaling)
        return int((ids.sort(1).values != routing.ids.sort(1).values).any(dim=1).sum())


def make_layer(family: str, seed: int) -> Layer:
    """Fresh random weights of a family's layer."""
    config = LAYERS[family]
    problem, gate = config.problem, config.problem.gate
    generator = torch.Generator(CARD).manual_seed(seed)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        drawn = torch.empty(shape, dtype=torch.float16, device=CARD)
        return drawn.normal_(generator=generator).mul_(scale)

    experts, hidden, size = problem.experts, problem.hidden, problem.intermediate
    weights = MoEWeights(
        router=normal(gate.router_rows, hidden, scale=hidden**-0.5),
        gate_up=normal(experts, 2 * size, hidden, scale=hidden**-0.5),
        down=normal(experts, hidden, size, scale=size**-0.5),
        bias=normal(gate.experts, scale=0.05).float() if gate.bias else None,
    )
    return Layer(config, weights, 0.5 * normal(hidden, scale=1.0).float())
