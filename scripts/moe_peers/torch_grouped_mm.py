"""torch.nn.functional.grouped_mm with permutation and combination, in bf16: its fast type."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scripts.moe_peers.glue import combine, silu_and_mul
from scripts.moe_peers.layer import Layer
from scripts.moe_peers.peer import Forward, Peer
from search_spaces.errors import UserError


def prepare(layer: Layer, hidden: torch.Tensor) -> Forward:
    """Tokens are sorted by expert and gathered; activation and combination are Triton kernels.

    Raises UserError before Ampere, where torch has no grouped product.
    """
    if hidden.is_cuda and torch.cuda.get_device_capability(hidden.device) < (8, 0):
        raise UserError("torch has grouped_mm from sm_80 on only")
    tokens, model = hidden.shape[0], layer.model
    gate_up, down = layer.gate_up.transpose(-2, -1), layer.down.transpose(-2, -1)
    places = torch.arange(tokens * model.top_k, device=hidden.device)
    experts = torch.arange(model.experts, device=hidden.device)
    inverse = torch.empty_like(places)

    def forward() -> torch.Tensor:
        weights, ids = layer.choose(F.linear(hidden, layer.router))
        by_expert, order = torch.sort(ids.flatten(), stable=True)
        ends = torch.searchsorted(by_expert, experts, right=True).int()
        act = silu_and_mul(F.grouped_mm(hidden[order // model.top_k], gate_up, offs=ends))
        inverse[order] = places
        out = combine(F.grouped_mm(act, down, offs=ends), inverse.view_as(ids), weights)
        shared = layer.shared(hidden)
        return out if shared is None else out + shared

    return forward


PEER = Peer("grouped_mm", torch.bfloat16, prepare, "bf16, Triton between the products")
