"""Interleaving: the weights of a gated grouped GEMM, made once when a model is loaded."""

from __future__ import annotations

import torch

from search_spaces import UserError
from search_spaces.problem import PAIR_BLOCK


def interleave_gate_up(gate_up: torch.Tensor) -> torch.Tensor:
    """[E, 2I, K] with all gate rows first, as transformers fuses them, to b of a gated epilogue.

    Rows then alternate in blocks of 8: gate 0..7, up 0..7, gate 8..15 and so on, so that a thread
    that holds a gate column of C's tile holds the up column that belongs to it. Any dtype and
    device; the result is a contiguous copy. Raises UserError unless I is a multiple of 8.
    """
    if gate_up.ndim != 3 or gate_up.shape[1] % (2 * PAIR_BLOCK):
        raise UserError(
            f"gate_up has shape {list(gate_up.shape)}: must be [E, 2 I, K] with I a multiple of "
            f"{PAIR_BLOCK}, gate rows first"
        )
    gate, up = gate_up.unflatten(1, (2, -1, PAIR_BLOCK)).unbind(1)
    return torch.stack([gate, up], dim=2).flatten(1, 3)
