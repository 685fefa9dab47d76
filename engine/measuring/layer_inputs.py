"""LayerInputs: a layer's weights and hidden states, whose router spreads tokens as a bucket says.

A router row is a direction of length 1. A token is noise plus the directions of the experts that
it was dealt, long enough to stand out of the noise: so the layer's own gate, with the weights it
has, finds about the loads that were asked for. (A gate limited to groups of experts may find
others: then loads are what it makes of them.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.layers.moe_weights import MoEWeights
from search_spaces import Bucket, Skew
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem

_SIGNAL = 8.0  # logit of a dealt expert; those of the others are ~ N(0, 1), 4 at most
_BIAS = 0.01  # of a correction bias: small beside the differences of scores


@dataclass(frozen=True)
class LayerInputs:
    """``hidden`` [T, H] fp16 ~ N(0, 1) and the weights of all experts."""

    problem: LayerProblem
    weights: MoEWeights
    hidden: torch.Tensor

    @property
    def tokens(self) -> int:
        """T."""
        return self.hidden.shape[0]


def make_inputs(
    problem: LayerProblem, tokens: int, skew: Skew, seed: int, device: torch.device
) -> LayerInputs:
    """Draws everything from ``seed``: random signs and mantissas, since zeros run faster."""
    gate, size = problem.gate, problem.intermediate
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        drawn = torch.empty(shape, dtype=torch.float16, device=device)
        return drawn.normal_(generator=generator).mul_(scale)

    router = torch.nn.functional.normalize(normal(gate.router_rows, gate.hidden).float())
    hidden = normal(tokens, gate.hidden).float()
    dealt = deal_experts(gate, tokens, skew, seed).to(device)
    for slot in range(gate.top_k):
        hidden += _SIGNAL * router[dealt[:, slot]]
    weights = MoEWeights(
        router=router.half(),
        gate_up=normal(gate.all_experts, 2 * size, gate.hidden, scale=gate.hidden**-0.5),
        down=normal(gate.all_experts, gate.hidden, size, scale=size**-0.5),
        bias=normal(gate.experts, scale=_BIAS).float() if gate.bias else None,
    )
    return LayerInputs(problem, weights, hidden.half())


def deal_experts(gate: GateProblem, tokens: int, skew: Skew, seed: int) -> torch.Tensor:
    """int64 [T, top_k], on the CPU: distinct experts of each token, as often as the skew says."""
    bucket = Bucket(tokens * gate.top_k / gate.experts, skew)
    counts = torch.tensor(bucket.histogram(gate, seed))
    # No expert has more than T rows: of every T-th one, no two belong to it.
    dealt = torch.repeat_interleave(torch.arange(gate.experts), counts).view(gate.top_k, tokens).T
    return dealt[torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))]
