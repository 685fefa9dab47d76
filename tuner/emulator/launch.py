"""Launch: a kernel's PTX, a grid and arguments, executed on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from search_spaces.errors import UserError
from tuner.emulator.emulation import Emulation
from tuner.emulator.isa.values import Dim3
from tuner.emulator.job import Job
from tuner.emulator.memory.clocks import LAST_CTA
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
    for name, value, least in (
        ("smem_bytes", smem_bytes, 0),
        ("budget", budget, 1),
        ("cohort_lanes", cohort_lanes, 1),
        ("processes", processes, 1),
    ):
        if value < least:
            raise UserError(f"{name}={value}: give at least {least}")
    todo = _chosen(grid, ctas, checks=checks)
    job = Job(ptx, entry, grid, block, smem_bytes, args, todo, checks, count, budget, cohort_lanes)
    return job.run() if processes == 1 else run_in_processes(job, processes)


def _chosen(grid: Dim3, ctas: Sequence[int] | None, *, checks: bool) -> Sequence[int]:
    """The CTAs to run. Raises UserError for what is none, and for one named twice."""
    total = grid[0] * grid[1] * grid[2]
    highest = total - 1
    if ctas is not None:
        _check_named(grid, ctas, total)
        highest = max(ctas)
    if checks and highest > LAST_CTA:
        raise UserError(
            f"CTA {highest}: checks tell CTAs up to {LAST_CTA} apart: run others with checks=False"
        )
    return range(total) if ctas is None else ctas


def _check_named(grid: Dim3, ctas: Sequence[int], total: int) -> None:
    if not ctas:
        raise UserError("ctas names no CTA: leave it out to run all")
    for cta, times in Counter(ctas).items():
        if not 0 <= cta < total:
            raise UserError(f"CTA {cta} does not exist: the grid {grid} has {total}")
        if times > 1:
            raise UserError(f"CTA {cta} is named {times} times in ctas: it runs once")
