"""LaunchShape: what a number of rows makes of a kernel: its grids, scratch memory and scalars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Scalar: TypeAlias = "np.int32 | np.float32"


@dataclass(frozen=True)
class Pass:
    """One launch of an op's kernel. ``scalars`` follow all pointers in its parameter list."""

    grid: tuple[int, int, int]
    smem_bytes: int
    scalars: tuple[Scalar, ...]


@dataclass(frozen=True)
class LaunchShape:
    """Passes run one after another on one stream; all get the same pointers.

    Every op's parameters are its own pointers, then ``workspace`` and ``counters``, then the
    scalars of the pass. Workspace holds what is written before it is read; ``counters`` is a
    number of int32 that are zero before the first pass and after the last. Both may be null where
    their size is 0.
    """

    passes: tuple[Pass, ...]
    workspace_bytes: int
    counters: int
