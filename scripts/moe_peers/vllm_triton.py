"""vLLM's Triton fused MoE in fp16: its top-k, alignment, two grouped products and sum.

Two contestants. ``vLLM`` picks its config as vLLM does: the table tuned for this GPU and shape,
else its default. ``vLLM near`` is there for shapes without such a table, and takes the nearest one
it ships for a Hopper card: the same sizes on an H200, else the nearest size on an H100.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from scripts.moe_peers import vllm_modules
from scripts.moe_peers.glue import silu_and_mul
from scripts.moe_peers.layer import Layer
from scripts.moe_peers.peer import Forward, Peer
from search_spaces.errors import UserError

_TABLE = re.compile(r"E=(\d+),N=(\d+),device_name=(\w+)\.json")


def site_folder() -> Path:
    """LIGHT_MOE_PEERS. Raises UserError when it names no folder."""
    text = os.environ.get("LIGHT_MOE_PEERS", "")
    if not text or not Path(text).is_dir():
        raise UserError(
            f"LIGHT_MOE_PEERS='{text}' names no folder: make one with scripts/peers_site.py"
        )
    return Path(text).resolve()


def prepare(layer: Layer, hidden: torch.Tensor) -> Forward:
    """As shipped. Raises UserError where the extracted files are missing or do not load."""
    return _prepare(layer, hidden, {})


def prepare_near(layer: Layer, hidden: torch.Tensor) -> Forward:
    """By the nearest table. Raises UserError where the GPU has a table of its own, too."""
    model, folder = layer.model, site_folder() / vllm_modules.MOE.replace(".", "/") / "configs"
    path = nearest_table(folder, model.experts, model.intermediate, vllm_modules.device_file_name())
    table = json.loads(path.read_text(encoding="utf-8"))
    sizes = [size for size in table if size.isdigit()]
    return _prepare(layer, hidden, table[min(sizes, key=lambda m: abs(int(m) - hidden.shape[0]))])


def nearest_table(folder: Path, experts: int, size: int, device: str) -> Path:
    """The table of the same E that is nearest to N = ``size``, of the same sizes on any card first.

    Raises UserError when ``device`` has its own, or nobody has one of that E.
    """
    found = []
    for path in folder.glob("*.json"):
        match = _TABLE.fullmatch(path.name)
        if match and int(match[1]) == experts:
            if int(match[2]) == size and match[3] == device:
                raise UserError("vLLM has a table for this GPU and shape, and uses it")
            far = max(int(match[2]), size) / min(int(match[2]), size)
            found.append((far, match[3] != device, path))
    if not found:
        raise UserError(f"vLLM ships no table for {experts} experts")
    return min(found)[2]


def _prepare(layer: Layer, hidden: torch.Tensor, forced: dict[str, Any]) -> Forward:
    site = site_folder()
    fused_moe = vllm_modules.load_fused_moe(site)
    vllm_modules.load_operators(site)
    routed = route(layer, hidden)

    def forward() -> torch.Tensor:
        weights, ids = routed()
        vllm_modules.FORCED.clear()
        vllm_modules.FORCED.update(forced)
        out: torch.Tensor = fused_moe.fused_experts_impl(
            hidden, layer.gate_up, layer.down, weights, ids
        )
        return out if layer.shared_gate_up is None else out + shared_experts(layer, hidden)

    return forward


def route(layer: Layer, hidden: torch.Tensor) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """The router by torch and vLLM's top-k: weights float32[T, k] and ids int32[T, k]."""
    tokens, top_k = hidden.shape[0], layer.model.top_k
    weights = torch.empty(tokens, top_k, dtype=torch.float32, device=hidden.device)
    ids = torch.empty(tokens, top_k, dtype=torch.int32, device=hidden.device)
    sources = torch.empty_like(ids)

    def routed() -> tuple[torch.Tensor, torch.Tensor]:
        logits = F.linear(hidden, layer.router)
        torch.ops._moe_C.topk_softmax(
            weights, ids, sources, logits, layer.model.norm_topk, None, None
        )
        return weights, ids

    return routed


def shared_experts(layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
    """Two dense products with a fused activation between, as vLLM runs them: [T, H]."""
    assert layer.shared_gate_up is not None and layer.shared_down is not None
    return F.linear(silu_and_mul(F.linear(hidden, layer.shared_gate_up)), layer.shared_down)


PEER = Peer("vLLM", torch.float16, prepare, "fp16, config as vLLM picks it")
NEAR = Peer("vLLM near", torch.float16, prepare_near, "fp16, nearest of vLLM's Hopper tables")
