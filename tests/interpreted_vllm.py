"""Run by test_moe_peers.py with TRITON_INTERPRET=1: vLLM's own fused_moe.py on a small layer.

What needs a GPU is given here in torch: the three operators of vLLM's library, by their schemas.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import triton.runtime.interpreter as interpreter

from scripts.moe_peers import vllm_modules, vllm_triton
from scripts.moe_peers.layer import draw_hidden, make_layer, reference
from search_spaces import Skew
from search_spaces.models import load_model

SCHEMAS = (
    "topk_softmax(Tensor! w, Tensor! ids, Tensor! rows, Tensor logits, bool renormalize, "
    "Tensor? bias, Tensor? is_padding) -> ()",
    "moe_sum(Tensor x, Tensor! out, Tensor? ids=None, Tensor? map=None) -> ()",
    "moe_align_block_size(Tensor ids, int num_experts, int block_size, Tensor! sorted_ids, "
    "Tensor! experts, Tensor! padded, Tensor? map, Tensor(a!)? scatter_idx=None) -> ()",
)


def topk_softmax(
    w: torch.Tensor, ids: torch.Tensor, _: Any, logits: torch.Tensor, norm: bool, *__: Any
) -> None:
    weights, chosen = torch.topk(logits.float().softmax(-1), w.shape[1], dim=-1)
    w.copy_(weights / weights.sum(-1, keepdim=True) if norm else weights)
    ids.copy_(chosen)


def moe_sum(x: torch.Tensor, out: torch.Tensor, *_: Any) -> None:
    out.copy_(x.float().sum(1))


def moe_align_block_size(
    ids: torch.Tensor,
    experts: int,
    block: int,
    sorted_ids: torch.Tensor,
    of_block: torch.Tensor,
    padded: torch.Tensor,
    *_: Any,
) -> None:
    sorted_ids.fill_(ids.numel())
    begin = 0
    for expert in range(experts):
        slots = torch.where(ids.flatten() == expert)[0]
        blocks = -(-slots.numel() // block)
        sorted_ids[begin : begin + slots.numel()] = slots.int()
        of_block[begin // block : begin // block + blocks] = expert
        begin += blocks * block
    padded.fill_(begin)


def main() -> None:
    library = torch.library.Library("_moe_C", "DEF")
    for schema, function in zip(
        SCHEMAS, (topk_softmax, moe_sum, moe_align_block_size), strict=True
    ):
        library.define(schema)
        library.impl(function.__name__, function, "CPU")
    patch: Any = interpreter._patch_lang_tensor

    def patch_index(tensor: Any, scope: Any) -> None:
        """Triton 3.6 makes an int of an array of one element, which NumPy no longer does."""
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    vars(interpreter)["_patch_lang_tensor"] = patch_index
    vars(vllm_modules)["load_operators"] = lambda _: None
    vars(vllm_modules)["device_file_name"] = lambda: "NVIDIA_H100_80GB_HBM3"
    for name in ("mixtral-8x7b", "deepseek-v2-lite"):
        model = load_model(name)
        shared = 2 * 64 if model.shared_intermediate else 0
        model = replace(model, hidden=128, intermediate=64, shared_intermediate=shared)
        layer = make_layer(model, 1, torch.device("cpu"))
        for tokens in (1, 40):
            hidden = draw_hidden(model, layer.router, tokens, Skew.parse("zipf:1.2"), 3)
            expected = reference(layer, hidden)
            for peer in (vllm_triton.PEER, vllm_triton.NEAR):
                out = peer.prepare(layer, hidden)().float()
                print(name, tokens, float((out - expected).norm() / expected.norm()))


main()
