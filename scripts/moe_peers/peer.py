"""What every peer offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from triton.errors import TritonError

from scripts.moe_peers.layer import Layer
from search_spaces.errors import UserError

Forward = Callable[[], torch.Tensor]  # queues one layer on torch's current stream -> [T, H]


# What foreign code raises where it does not fit this machine: a cell of the table says so, and the
# others are timed.
FAILURES = (
    UserError, TritonError, RuntimeError, AssertionError, ImportError, AttributeError, TypeError,
    ValueError, LookupError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """``prepare(layer, hidden)`` binds weights and hidden states, both in ``dtype``.

    What it returns can be captured in a CUDA graph once it has run. It raises UserError where the
    peer cannot run here, in one line that a table can show. ``note`` says what was timed.
    """

    name: str
    dtype: torch.dtype
    prepare: Callable[[Layer, torch.Tensor], Forward]
    note: str
