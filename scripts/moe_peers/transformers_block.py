"""transformers' own MoE block in bf16, as it is and through torch.compile.

Of the experts' implementations that it offers, ``grouped_mm`` is timed: the fastest in bf16 that a
CUDA graph can hold.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import torch

from scripts.moe_peers.layer import Layer
from scripts.moe_peers.peer import Forward, Peer
from search_spaces.errors import UserError
from search_spaces.models import FAMILIES, ModelShape

BLOCKS = {
    "mixtral": "MixtralSparseMoeBlock",
    "qwen3_moe": "Qwen3MoeSparseMoeBlock",
    "olmoe": "OlmoeSparseMoeBlock",
    "deepseek_v2": "DeepseekV2Moe",
}


def make_block(layer: Layer) -> torch.nn.Module:
    """The model's block around the layer's own tensors. Raises UserError for other models."""
    model = layer.model
    if model.model_type not in BLOCKS:
        raise UserError(f"no transformers block is known here for {model.model_type}")
    try:
        module: Any = importlib.import_module(
            f"transformers.models.{model.model_type}.modeling_{model.model_type}"
        )
        from transformers import CONFIG_MAPPING
    except ImportError as error:
        raise UserError(f"transformers is not installed here ({error})") from None
    config = CONFIG_MAPPING[model.model_type](**_fields(model))
    config._experts_implementation = "grouped_mm"
    with torch.device("meta"):
        block: torch.nn.Module = getattr(module, BLOCKS[model.model_type])(config)
    block.load_state_dict(block_state(layer), assign=True)
    return block.eval().requires_grad_(False)


def _fields(model: ModelShape) -> dict[str, Any]:
    family = FAMILIES[model.model_type]
    fields: dict[str, Any] = {
        "hidden_size": model.hidden,
        family.intermediate: model.intermediate,
        family.experts: model.experts,
        "num_experts_per_tok": model.top_k,
    }
    if family.reads_norm:
        fields["norm_topk_prob"] = model.norm_topk
    if model.model_type == "deepseek_v2":
        fields |= {
            "n_shared_experts": model.shared_intermediate // model.intermediate,
            "topk_method": "greedy",
            "n_group": 1,
            "topk_group": 1,
            "routed_scaling_factor": 1.0,
        }
    return fields


def block_state(layer: Layer) -> dict[str, torch.Tensor]:
    """The layer's tensors under the names that transformers' block has for them."""
    state = {
        "gate.weight": layer.router,
        "experts.gate_up_proj": layer.gate_up,
        "experts.down_proj": layer.down,
    }
    if layer.shared_gate_up is not None and layer.shared_down is not None:
        gate, up = layer.shared_gate_up.chunk(2)
        state["shared_experts.gate_proj.weight"] = gate
        state["shared_experts.up_proj.weight"] = up
        state["shared_experts.down_proj.weight"] = layer.shared_down
    return state


def prepare(layer: Layer, hidden: torch.Tensor) -> Forward:
    """The block, called as the model calls it. Raises UserError where transformers is missing."""
    return _forward(make_block(layer), hidden)


def prepare_compiled(layer: Layer, hidden: torch.Tensor) -> Forward:
    """The same through torch.compile, once for all numbers of tokens but one, which is apart."""
    return _forward(_compiled(layer), hidden)


@lru_cache(maxsize=1)
def _compiled(layer: Layer) -> Any:
    # Else Dynamo counts this block as the last one's recompilation, and gives up at the eighth.
    torch._dynamo.reset()
    return torch.compile(make_block(layer), dynamic=True)


def _forward(block: Any, hidden: torch.Tensor) -> Forward:
    batch = hidden[None]

    @torch.no_grad()
    def forward() -> torch.Tensor:
        out: torch.Tensor = block(batch)
        return out[0]

    return forward


PEER = Peer("transformers", torch.bfloat16, prepare, "bf16, its grouped_mm experts")
COMPILED = Peer("torch.compile", torch.bfloat16, prepare_compiled, "bf16, transformers' block")
