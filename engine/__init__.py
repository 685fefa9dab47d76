"""Engine: launches tuned kernels on torch tensors. See :class:`TunedKernels`."""

from engine.kernels import Explanation, NotTunedWarning, TunedKernels

__all__ = ["Explanation", "NotTunedWarning", "TunedKernels"]
