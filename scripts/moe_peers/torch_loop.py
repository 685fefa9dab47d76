"""A loop over experts by torch, in fp16: what a model without any MoE kernel runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scripts.moe_peers.layer import Layer
from scripts.moe_peers.peer import Forward, Peer


def prepare(layer: Layer, hidden: torch.Tensor) -> Forward:
    """Which tokens reach which expert is read off once, so that a graph can hold the loop.

    That favours it: a model would have to ask the device for the counts at every step.
    """
    _, ids = layer.choose(F.linear(hidden, layer.router))
    visits = [
        (expert, *torch.where(ids == expert)) for expert in sorted(set(ids.flatten().tolist()))
    ]

    def forward() -> torch.Tensor:
        weights, _ = layer.choose(F.linear(hidden, layer.router))
        weights = weights.to(hidden.dtype)
        out = torch.zeros_like(hidden)
        for expert, rows, slots in visits:
            gate, up = F.linear(hidden[rows], layer.gate_up[expert]).chunk(2, dim=-1)
            part = F.linear(F.silu(gate) * up, layer.down[expert])
            out.index_add_(0, rows, part * weights[rows, slots, None])
        shared = layer.shared(hidden)
        return out if shared is None else out + shared

    return forward


PEER = Peer("torch loop", torch.float16, prepare, "fp16, the host knows all counts")
