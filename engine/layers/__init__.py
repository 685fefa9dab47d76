"""Layers: what a model is made of, on top of tuned kernels. See :class:`MoE`."""

from engine.layers.moe import MoE
from engine.layers.moe_config import MoEConfig
from engine.layers.moe_weights import MoEWeights
from engine.layers.workspace import Workspace

__all__ = ["MoE", "MoEConfig", "MoEWeights", "Workspace"]
