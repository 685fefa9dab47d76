"""transformers' MoE blocks, small, with fresh random weights and hidden states to route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

HIDDEN, SIZE = 64, 40
_DEEPSEEK = {
    "moe_intermediate_size": SIZE,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_shared_experts": 2,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 1.5,
}
# Block, config class and fields of each family, sizes aside.
FAMILIES: dict[str, tuple[type[nn.Module], Any, dict[str, Any]]] = {
    "mixtral": (
        MixtralSparseMoeBlock,
        transformers.MixtralConfig,
        {"intermediate_size": SIZE, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
    "qwen2_moe": (  # a shared size that is no multiple of an expert's
        Qwen2MoeSparseMoeBlock,
        transformers.Qwen2MoeConfig,
        {
            "moe_intermediate_size": SIZE,
            "shared_expert_intermediate_size": 2 * SIZE + 16,
            "num_experts": 12,
            "num_experts_per_tok": 4,
        },
    ),
    "qwen3_moe": (
        Qwen3MoeSparseMoeBlock,
        transformers.Qwen3MoeConfig,
        {
            "moe_intermediate_size": SIZE,
            "num_experts": 16,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
        },
    ),
    "olmoe": (
        OlmoeSparseMoeBlock,
        transformers.OlmoeConfig,
        {"intermediate_size": SIZE, "num_experts": 16, "num_experts_per_tok": 3},
    ),
    "deepseek_v2": (
        DeepseekV2Moe,
        transformers.DeepseekV2Config,
        {**_DEEPSEEK, "topk_method": "group_limited_greedy"},
    ),
    "deepseek_v3": (DeepseekV3MoE, transformers.DeepseekV3Config, _DEEPSEEK),
}
ROUTINGS = ("uniform", "skewed", "one")


@dataclass(frozen=True)
class Case:
    """A block in fp32 whose weights are fp16 numbers, their fp16 state, and tokens for it."""

    config: Any
    block: nn.Module
    state: dict[str, torch.Tensor]
    common: torch.Tensor

    def tokens(self, count: int, seed: int) -> torch.Tensor:
        """fp16 [count, H]: noise, and what all tokens have in common."""
        noise = torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed))
        return (noise + self.common).half()

    def expected(self, hidden: torch.Tensor) -> torch.Tensor:
        """What transformers answers in fp32 to hidden [T, H]."""
        with torch.inference_mode():
            answer: torch.Tensor = self.block(hidden.float()[None])
        return answer[0]


def make_case(family: str, routing: str, seed: int, **fields: Any) -> Case:
    """``skewed`` prefers low experts, ``one`` sends all tokens to the same top_k."""
    block_type, config_type, its_fields = FAMILIES[family]
    config = config_type(hidden_size=HIDDEN, **{**its_fields, **fields})
    generator = torch.Generator().manual_seed(seed)
    block = block_type(config).requires_grad_(False).eval()
    for name, tensor in block.state_dict().items():
        scale = 0.05 if name.endswith("bias") else tensor.shape[-1] ** -0.5
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    common = torch.nn.functional.normalize(torch.randn(HIDDEN, generator=generator), dim=0) * 4
    gate: Any = block.gate
    experts = gate.weight.shape[0]
    steps = {"uniform": 0.0, "skewed": 0.2, "one": 4.0}[routing]
    ranks = torch.arange(experts, dtype=torch.float32)
    gate.weight -= steps * ranks[:, None] * common / common.square().sum()
    if family == "deepseek_v3":
        gate.e_score_correction_bias -= steps / 4 * ranks  # sigmoids end at 1
    state = {}
    for name, tensor in block.state_dict().items():
        state[name] = tensor.clone() if name.endswith("bias") else tensor.half()
        tensor.copy_(state[name])
    return Case(config, block, state, common)
