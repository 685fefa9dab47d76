"""Launch: a kernel's PTX, a grid and arguments, executed on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces.errors import UserError
from tuner.emulator.emulation import Emulation
from tuner.emulator.isa.values import Dim3
from tuner.emulator.job import Job
from tuner.emulator.processes import run_in_processes

BUDGET = 200_000_000  # warp instructions of a cohort
COHORT_LANES = 2048


def emulate(
    ptx: str,
    grid: Dim3,
    block: Dim3,
    smem_bytes: int,
    args: Sequence[Any],
    *,
    entry: str | None = None,
    ctas: Sequence[int] | None = None,
    checks: bool = True,
    count: bool = True,
    budget: int = BUDGET,
    cohort_lanes: int = COHORT_LANES,
    processes: int = 1,
) -> Emulation:
    """Runs a kernel as a GPU would, on NumPy arrays and CPU torch tensors, changed in place.

    ``args`` follow the parameter list: an array is a pointer to its first element (wrapped in
    :class:`Unwritten`, the kernel has to write before it reads), an int or NumPy scalar a value,
    bytes a struct, None a null pointer. ``ctas`` names linear CTA indices to run (default: all).
    ``smem_bytes`` of dynamic shared memory. With ``checks``, reads of memory nobody wrote and races
    are faults, as out-of-bounds and misaligned accesses and barrier divergence always are.

    CTAs run in cohorts of about ``cohort_lanes`` threads; one that waits for another gives way.
    ``budget`` is how many warp instructions a cohort may issue. With ``processes``, CTAs that do
    not depend on each other are spread over that many; races between CTAs are then told only where
    they write different values.

    Raises PtxError for PTX the emulator does not know, UserError for arguments that do not fit the
    kernel, EmulationFault for what the kernel does wrong.
    """
    total = grid[0] * grid[1] * grid[2]
    todo = range(total) if ctas is None else ctas
    beyond = [cta for cta in todo if not 0 <= cta < total]
    if beyond:
        raise UserError(f"CTA {beyond[0]} does not exist: the grid {grid} has {total}")
    job = Job(ptx, entry, grid, block, smem_bytes, args, todo, checks, count, budget, cohort_lanes)
    return job.run() if processes == 1 else run_in_processes(job, processes)
