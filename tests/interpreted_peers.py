"""Run by test_moe_peers.py with TRITON_INTERPRET=1: prints relative errors of Triton peers."""

from __future__ import annotations

from dataclasses import replace

import torch

from scripts.moe_peers import glue, torch_grouped_mm
from scripts.moe_peers.layer import draw_hidden, make_layer, reference
from search_spaces import Skew
from search_spaces.models import load_model


def show(name: str, out: torch.Tensor, expected: torch.Tensor) -> None:
    print(name, float((out.float() - expected).norm() / expected.norm()))


def main() -> None:
    x = torch.randn(5, 2 * 1300, dtype=torch.float16)  # more columns than one block has
    gate, up = x.float().chunk(2, dim=1)
    show("silu_and_mul", glue.silu_and_mul(x), gate / (1 + (-gate).exp()) * up)
    inverse, weights = torch.tensor([[4, 0], [1, 3]]), torch.rand(2, 2)
    expected = (x.float()[inverse] * weights[..., None]).sum(1)
    show("combine", glue.combine(x, inverse, weights), expected)
    peer = torch_grouped_mm.PEER
    for name in ("mixtral-8x7b", "deepseek-v2-lite"):
        model = load_model(name)
        shared = 2 * 64 if model.shared_intermediate else 0
        model = replace(model, hidden=192, intermediate=64, shared_intermediate=shared)
        layer = make_layer(model, 1, torch.device("cpu"))
        hidden = draw_hidden(model, layer.router, 11, Skew.parse("zipf:1.2"), 2)
        out = peer.prepare(layer.cast(peer.dtype), hidden.to(peer.dtype))()
        show(name, out, reference(layer, hidden))


main()
