"""A MoE layer with random weights, hidden states routed as wanted, and what should come out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from search_spaces.bucket import Skew
from search_spaces.models import ModelShape

CHOSEN_LOGIT = 4.0
LOGIT_STEP = 0.25  # least between a token's chosen experts: bf16 moves a logit by 0.01


@dataclass(frozen=True, eq=False)  # one is itself alone: caches tell layers apart
class Layer:
    """Weights of one layer, fp16 or bf16 on one device.

    ``router`` [E, H], ``gate_up`` [E, 2I, H] with the gate's rows first, ``down`` [E, H, I];
    ``shared_gate_up`` [2S, H] and ``shared_down`` [H, S] where the model has shared experts. All
    four preset models score by softmax over all experts, without groups, bias or scaling.
    """

    model: ModelShape
    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    shared_gate_up: torch.Tensor | None = None
    shared_down: torch.Tensor | None = None

    def cast(self, dtype: torch.dtype) -> Layer:
        """The same layer in another type; itself in its own."""
        shared_gate_up, shared_down = self.shared_gate_up, self.shared_down
        return replace(
            self,
            router=self.router.to(dtype),
            gate_up=self.gate_up.to(dtype),
            down=self.down.to(dtype),
            shared_gate_up=None if shared_gate_up is None else shared_gate_up.to(dtype),
            shared_down=None if shared_down is None else shared_down.to(dtype),
        )

    def choose(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Routing weights float32[T, k] and experts int64[T, k] of logits [T, E], by torch."""
        weights, ids = torch.topk(torch.softmax(logits.float(), dim=-1), self.model.top_k, dim=-1)
        if self.model.norm_topk:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, ids

    def shared(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """The shared experts' [T, H] by two dense products; None for a model without any."""
        if self.shared_gate_up is None or self.shared_down is None:
            return None
        gate, up = F.linear(hidden, self.shared_gate_up).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, self.shared_down)


def make_layer(model: ModelShape, seed: int, device: torch.device) -> Layer:
    """Weights ~ N(0, 1/K) in fp16, so that every activation is of order 1."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        drawn = torch.empty(shape, dtype=torch.float16, device=device)
        return drawn.normal_(generator=generator).mul_(shape[-1] ** -0.5)

    e, h, i, s = model.experts, model.hidden, model.intermediate, model.shared_intermediate
    return Layer(
        model=model,
        router=normal(e, h),
        gate_up=normal(e, 2 * i, h),
        down=normal(e, h, i),
        shared_gate_up=normal(2 * s, h) if s else None,
        shared_down=normal(h, s) if s else None,
    )


def draw_hidden(
    model: ModelShape, router: torch.Tensor, tokens: int, skew: Skew, seed: int
) -> torch.Tensor:
    """Hidden states fp16[T, H] ~ N(0, 1) that ``router`` [E, H] sends where ``skew`` wants them.

    A token's k experts are drawn without replacement with the skew's probabilities (Gumbel top-k),
    the experts in a random order. Then the hidden states are moved, within the span of the router's
    rows, to where the logits are as wanted: chosen ones fall from 4 in uneven steps, the others
    stay well below. So every contestant routes alike, whatever its rounding.
    """
    device = router.device
    generator = torch.Generator(device).manual_seed(seed)
    weights = torch.tensor(skew.weights(model.experts), device=device)
    weights = weights[torch.randperm(model.experts, generator=generator, device=device)]
    noise = torch.rand(tokens, model.experts, generator=generator, device=device)
    scores = weights.log() - (-noise.clamp(1e-20, 1 - 1e-7).log()).log()
    ids = scores.topk(model.top_k, dim=-1).indices
    gaps = torch.rand(tokens, model.top_k, generator=generator, device=device)
    chosen = CHOSEN_LOGIT - LOGIT_STEP * (1 + gaps).cumsum(dim=-1)
    others = torch.rand(scores.shape, generator=generator, device=device)
    wanted = chosen[:, -1:] - 2 * LOGIT_STEP - others
    wanted.scatter_(1, ids, chosen)

    exact = router.float()
    hidden = torch.randn(tokens, model.hidden, generator=generator, device=device)
    missing = wanted - hidden @ exact.T
    hidden += missing @ torch.linalg.solve(exact @ exact.T, exact)
    return hidden.half()


def reference(layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
    """fp32[T, H]: every operation in fp32, one expert after the other."""
    x = hidden.float()
    weights, ids = layer.choose(x @ layer.router.float().T)
    out = torch.zeros_like(x)
    for expert in ids.unique().tolist():
        rows, slots = torch.where(ids == expert)
        gate, up = (x[rows] @ layer.gate_up[expert].float().T).chunk(2, dim=-1)
        part = (F.silu(gate) * up) @ layer.down[expert].float().T
        out.index_add_(0, rows, part * weights[rows, slots, None])
    if layer.shared_gate_up is not None and layer.shared_down is not None:
        gate, up = (x @ layer.shared_gate_up.float().T).chunk(2, dim=-1)
        out += (F.silu(gate) * up) @ layer.shared_down.float().T
    return out
