"""Tuned dispatch: (problem, tokens) -> the fastest known kernel, launched in microseconds."""

from engine.kernels.dispatcher import NotTunedWarning
from engine.kernels.explanation import Explanation
from engine.kernels.interleaving import interleave_gate_up
from engine.kernels.reference import grouped_gemm_reference
from engine.kernels.selection import Choice
from engine.kernels.tuned import TunedKernels

__all__ = [
    "Choice",
    "Explanation",
    "NotTunedWarning",
    "TunedKernels",
    "grouped_gemm_reference",
    "interleave_gate_up",
]
