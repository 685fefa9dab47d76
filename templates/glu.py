"""Glu: gate and up columns in torch, and what a gated epilogue makes of them.

What the kernels compute in ``activation.cuh``, told a second time to check them against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.nn import functional as F

from search_spaces.problem import PAIR_BLOCK

LARGEST_F16 = 65504.0
# gelu in its tanh form: the hidden_act "gelu_pytorch_tanh" of transformers.
ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "swiglu": F.silu,
    "geglu": partial(F.gelu, approximate="tanh"),
    "reglu": F.relu,
}


def split_gate_up(columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gate and up, [..., N / 2] each, of columns [..., N] that alternate in blocks of 8."""
    gate, up = columns.unflatten(-1, (-1, 2, PAIR_BLOCK)).unbind(-2)
    return gate.flatten(-2), up.flatten(-2)


def glu(sums: torch.Tensor, epilogue: str) -> torch.Tensor:
    """act(gate) x up, [..., N / 2], of interleaved sums [..., N] in fp32.

    A result beyond fp16's 65504 becomes 65504 with its sign; a NaN stays one.
    """
    gate, up = split_gate_up(sums)
    return (ACTIVATIONS[epilogue](gate) * up).clamp(-LARGEST_F16, LARGEST_F16)
