"""Tuned dispatch: (problem, tokens) -> the fastest known kernel, launched in microseconds."""

from engine.kernels.dispatcher import NotTunedWarning
from engine.kernels.explanation import Explanation
from engine.kernels.interleaving import interleave_gate_up
from engine.kernels.reference import grouped_gemm_reference
from engine.kernels.tuned import TunedKernels
from tuning_db.selection import Choice

__all__ = [
    "Choice",
    "Explanation",
    "NotTunedWarning",
    "TunedKernels",
    "grouped_gemm_reference",
    "interleave_gate_up",
]
