"""Ops: the kernels as ``torch.ops.light_moe.*``, for torch.compile and torch.export to see."""

from engine.ops.definitions import fused_gate, grouped_gemm, moe_permute
from engine.ops.handles import handle_of, kernels_of

__all__ = ["fused_gate", "grouped_gemm", "handle_of", "kernels_of", "moe_permute"]
