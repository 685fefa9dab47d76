"""EmulatedPasses: all launches of one kernel, whatever its op, executed on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from templates.built import Built
from templates.launch_shape import LaunchShape
from tuner.emulator import Emulation, Unwritten, emulate
from tuner.emulator.emulation import joined
from tuner.emulator.launch import BUDGET
from tuner.inputs import POISON


def emulate_passes(
    built: Built,
    shape: LaunchShape,
    operands: Sequence[Any],
    counters: torch.Tensor,
    *,
    ctas: Sequence[int] | None = None,
    count: bool = False,
    budget: int = BUDGET,
    processes: int = 1,
) -> Emulation:
    """Runs each pass of ``shape`` in turn, on CPU tensors that are changed in place.

    ``operands`` are the op's pointers in the order of its parameters, None for null; results are
    wrapped in :class:`Unwritten`. ``counters`` is int32[shape.counters] of zeros. ``ctas``, of the
    first pass, are for a shape of one. Raises EmulationFault for what the kernel does wrong, and
    what :func:`emulate` raises.
    """
    # Poison, not zeros: what is added up without having been written shows.
    scratch = torch.full((shape.workspace_bytes // 2,), POISON, dtype=torch.int16)
    pointers = [
        *operands,
        Unwritten(scratch) if shape.workspace_bytes else None,
        counters if shape.counters else None,
    ]
    found = []
    for each in shape.passes:
        found.append(
            emulate(
                built.ptx, each.grid, (built.variant.threads, 1, 1), each.smem_bytes,
                [*pointers, *each.scalars], entry=built.variant.entry, ctas=ctas, count=count,
                budget=budget, processes=processes,
            )
        )  # fmt: skip
        # What one pass wrote the next one reads; what nobody wrote is poison still.
        pointers = [p.array if isinstance(p, Unwritten) else p for p in pointers]
    return joined(found, sum(one.seconds for one in found))
