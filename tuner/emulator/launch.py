"""Launch: a kernel's PTX, a grid and arguments, executed on the CPU."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.errors import UserError
from tuner.emulator.arguments import Arguments
from tuner.emulator.cohort import Cohort
from tuner.emulator.counters import Counters
from tuner.emulator.isa.values import WARP, Dim3
from tuner.emulator.machine import Machine
from tuner.emulator.memory import Memory
from tuner.emulator.program import assemble, choose_entry, lay_out
from tuner.emulator.ptx import Entry, read_module

BUDGET = 200_000_000  # warp instructions
COHORT_LANES = 2048
MOST_THREADS = 1024
# Polls of all waiting CTAs in a row, without any change of memory, that make a deadlock: a loop
# that reads volatile memory a few times and goes on is none.
PATIENCE = 1000


@dataclass(frozen=True)
class Emulation:
    """What a launch did. ``counters`` is None when nothing was to be counted."""

    counters: Counters | None
    warp_instructions: int
    thread_instructions: int
    ctas: int
    seconds: float


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
) -> Emulation:
    """Runs a kernel as a GPU would, on NumPy arrays and CPU torch tensors, changed in place.

    ``args`` follow the parameter list: an array is a pointer to its first element (wrapped in
    :class:`Unwritten`, the kernel has to write before it reads), an int or NumPy scalar a value,
    bytes a struct, None a null pointer. ``ctas`` names linear CTA indices to run (default: all).
    ``smem_bytes`` of dynamic shared memory. With ``checks``, reads of memory nobody wrote and races
    are faults, as out-of-bounds and misaligned accesses and barrier divergence always are.

    CTAs run in cohorts of about ``cohort_lanes`` threads; one that waits for another gives way.
    Raises PtxError for PTX the emulator does not know, UserError for arguments that do not fit the
    kernel, EmulationFault for what the kernel does wrong.
    """
    start = time.perf_counter()
    module = read_module(ptx)
    chosen = choose_entry(module, entry)
    _check_launch(chosen, grid, block)
    variables = lay_out(module, chosen)
    arguments = Arguments(chosen, args)
    memory = Memory(
        shared_bytes=variables.shared_bytes + smem_bytes,
        local_bytes=variables.local_bytes,
        const=variables.const,
        checks=checks,
    )
    addresses = dict(variables.addresses)
    for name, image in variables.globals.items():
        content = np.frombuffer(image, np.uint8)
        addresses[name] = memory.add_buffer(name, content, written=True)
    memory.params = arguments.place(memory)
    memory.seal()
    program = assemble(chosen, addresses)
    counters = Counters(program.instructions) if count else None

    def machine(some: Sequence[int]) -> Machine:
        cohort = Cohort(some, grid, block, program.registers, memory, counters)
        return Machine(program, cohort, budget)

    todo = range(grid[0] * grid[1] * grid[2]) if ctas is None else ctas
    done = _run_all(map(machine, _cohorts(todo, block, cohort_lanes)), memory)
    arguments.write_back(memory)
    return Emulation(
        counters,
        sum(one.issued for one in done),
        sum(one.threads for one in done),
        len(todo),
        time.perf_counter() - start,
    )


def _check_launch(entry: Entry, grid: Dim3, block: Dim3) -> None:
    """What the driver would refuse too."""
    threads = block[0] * block[1] * block[2]
    if min(*grid, *block) < 1:
        raise UserError(f"grid {grid}, block {block}: every extent must be at least 1")
    if threads > MOST_THREADS:
        raise UserError(f"block {block} has {threads} threads: a CTA has at most {MOST_THREADS}")
    most = entry.directives.get("maxntid")
    if most is not None and threads > math.prod(most):
        raise UserError(
            f"block {block} has {threads} threads: {entry.name} was compiled for at most "
            f"{math.prod(most)}"
        )


def _cohorts(ctas: Sequence[int], block: Dim3, lanes: int) -> Iterator[Sequence[int]]:
    width = -(-block[0] * block[1] * block[2] // WARP) * WARP
    each = max(1, lanes // width)
    for start in range(0, len(ctas), each):
        yield ctas[start : start + each]


def _run_all(machines: Iterable[Machine], memory: Memory) -> list[Machine]:
    """Runs cohort after cohort; those that wait for others get their turn again."""
    waiting: deque[Machine] = deque()
    done: list[Machine] = []
    for machine in machines:
        (done if machine.run() else waiting).append(machine)
    idle = 0
    while waiting:
        machine, changes = waiting.popleft(), memory.changes
        if machine.run(again=True):
            done.append(machine)
            idle = 0
            continue
        waiting.append(machine)
        idle = 0 if memory.changes != changes else idle + 1
        if idle > PATIENCE * len(waiting):
            raise machine.deadlock()
    return done
