"""Engine: tuned kernels on torch tensors, :class:`TunedKernels`, and whole layers, :class:`MoE`."""

from engine.kernels import Explanation, NotTunedWarning, TunedKernels
from engine.layers import MoE, MoEConfig, MoEWeights, Workspace

__all__ = [
    "Explanation",
    "MoE",
    "MoEConfig",
    "MoEWeights",
    "NotTunedWarning",
    "TunedKernels",
    "Workspace",
]
