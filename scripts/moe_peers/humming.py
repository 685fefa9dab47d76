"""Humming's sm_75 path in fp16: what a Turing card would be given, run here on a newer GPU.

Humming is told that the GPU is an sm_75, so that it picks the configs and instructions of that
tier, and nvcc makes machine code for the real GPU out of them. Its check that weights have at most
8 bits is passed over: the kernel itself takes fp16 weights. Routing and alignment are vLLM's.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from scripts.moe_peers import vllm_modules
from scripts.moe_peers.glue import combine, silu_and_mul
from scripts.moe_peers.layer import Layer
from scripts.moe_peers.peer import Forward, Peer
from scripts.moe_peers.vllm_triton import route, shared_experts, site_folder

SM_75 = 75
LOCKS = 2048  # of its stream-k, as many as its own layer has
INDEXED = json.dumps({"gemm_type": "indexed"})


@dataclass(frozen=True)
class Product:
    """One grouped product's weights [E, N, K] as Humming wants them, and its layer config."""

    config: Any
    weight: torch.Tensor
    scale: torch.Tensor
    locks: torch.Tensor

    def tuning(self, rows: int) -> dict[str, Any]:
        """What Humming's heuristics of sm_75 choose for so many rows."""
        tune = importlib.import_module("humming.tune")
        chosen: dict[str, Any] = tune.get_heuristics_config(
            self.config, shape_m=rows, gemm_type="indexed", device=self.weight.device
        )
        return chosen


@cache
def load(site: Path, arch: str) -> None:
    """Import Humming as of an sm_75 GPU whose machine code is ``arch`` ("sm_90")."""
    os.environ["HUMMING_COMPILER"] = "nvcc"
    sys.path.append(str(site))
    device: Any = importlib.import_module("humming.device")
    device.DeviceInfo.sm_version = property(lambda _: SM_75)
    compiler: Any = importlib.import_module("humming.jit.compiler")
    flags_of = compiler.NVCCCompiler.get_flags

    def get_flags(_: Any, sm_version: str, disable_fast_math: bool = False) -> list[str]:
        flags: list[str] = flags_of(sm_version, disable_fast_math)
        return [flag.replace(f"code=sm_{sm_version}", f"code={arch}") for flag in flags]

    compiler.NVCCCompiler.get_flags = classmethod(get_flags)
    kernel: Any = importlib.import_module("humming.kernel.humming")
    kernel.HummingKernel.check_dtype = lambda _: None


def make_product(weight: torch.Tensor) -> Product:
    """Of fp16 [E, N, K]: the same numbers, rows regrouped by 16-byte chunks of K."""
    config_module: Any = importlib.import_module("humming.config")
    transform: Any = importlib.import_module("humming.transform")
    dtypes: Any = importlib.import_module("humming.dtypes")
    experts, n, k = weight.shape
    half = dtypes.float16
    config = config_module.LayerConfig(
        sm_version=SM_75, shape_n=n, shape_k=k, num_experts=experts, a_dtype=half, b_dtype=half,
        c_dtype=half, bs_dtype=half, weight_scale_type=config_module.WeightScaleType.TENSOR,
    )  # fmt: skip
    packed = transform.transform_humming_weight(
        weight.view(torch.int32), half, half, packed=True, use_flat_weight=True
    )
    device = weight.device
    scale = torch.ones(experts, dtype=torch.float32, device=device)
    return Product(config, packed, scale, torch.zeros(LOCKS, dtype=torch.int32, device=device))


@lru_cache(maxsize=1)
def _products(layer: Layer) -> tuple[Product, Product]:
    return make_product(layer.gate_up), make_product(layer.down)


def prepare(layer: Layer, hidden: torch.Tensor) -> Forward:
    """Raises UserError where the extracted files are missing or vLLM's library does not load."""
    site, (major, minor) = site_folder(), torch.cuda.get_device_capability(hidden.device)
    vllm_modules.load_fused_moe(site)
    vllm_modules.load_operators(site)
    load(site, f"sm_{major}{minor}")
    ops: Any = importlib.import_module("humming.ops")
    align = sys.modules[f"{vllm_modules.MOE}.moe_align_block_size"].moe_align_block_size
    tokens, top_k = hidden.shape[0], layer.model.top_k
    rows = tokens * top_k
    products = _products(layer)
    tunings = [product.tuning(rows) for product in products]
    blocks = [tuning["block_shape"][0] for tuning in tunings]
    places = torch.arange(rows, device=hidden.device).view(tokens, top_k)
    routed = route(layer, hidden)

    def multiply(which: int, x: torch.Tensor, sorting: Any, spread: int) -> torch.Tensor:
        product = products[which]
        out = x.new_empty(rows, product.config.shape_n)
        ops.humming_gemm(
            layer_config=product.config.to_str(), compute_config=INDEXED,
            tuning_config=json.dumps(tunings[which]), inputs=x, weight=product.weight,
            weight_scale=product.scale, outputs=out, sorted_ids=sorting[0], expert_ids=sorting[1],
            num_tokens_padded=sorting[2], locks=product.locks, top_k=spread, valid_shape_m=rows,
        )  # fmt: skip
        return out

    def forward() -> torch.Tensor:
        weights, ids = routed()
        sortings = [align(ids, blocks[0], layer.model.experts)] * 2
        if blocks[1] != blocks[0]:
            sortings[1] = align(ids, blocks[1], layer.model.experts)
        act = silu_and_mul(multiply(0, hidden, sortings[0], top_k))
        out = combine(multiply(1, act, sortings[1], 1), places, weights)
        return out if layer.shared_gate_up is None else out + shared_experts(layer, hidden)

    return forward


PEER = Peer("Humming sm_75", torch.float16, prepare, "fp16 weights, told that the GPU is an sm_75")
