"""Job: one launch in one process."""

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
from tuner.emulator.cohort import Cohort, lanes_of
from tuner.emulator.counters import Counters
from tuner.emulator.emulation import Emulation
from tuner.emulator.isa.values import Dim3
from tuner.emulator.machine import Machine
from tuner.emulator.memory import Memory
from tuner.emulator.program import assemble, choose_entry, lay_out
from tuner.emulator.ptx import Entry, read_module

MOST_THREADS = 1024
# Polls of all waiting CTAs in a row, without any change of memory, that make a deadlock where they
# count or compute something meanwhile: a loop that only reads volatile memory is none.
PATIENCE = 100_000


@dataclass(frozen=True)
class Job:
    """The arguments of :func:`tuner.emulator.emulate`; ``ctas`` are those to run."""

    ptx: str
    entry: str | None
    grid: Dim3
    block: Dim3
    smem_bytes: int
    args: Sequence[Any]
    ctas: Sequence[int]
    checks: bool
    count: bool
    budget: int
    cohort_lanes: int

    def run(self) -> Emulation:
        """Executes all CTAs; the arrays among ``args`` hold the results."""
        start = time.perf_counter()
        module = read_module(self.ptx)
        entry = choose_entry(module, self.entry)
        _check_launch(entry, self.grid, self.block)
        variables = lay_out(module, entry)
        arguments = Arguments(entry, self.args)
        memory = Memory(
            shared_bytes=variables.shared_bytes + self.smem_bytes,
            local_bytes=variables.local_bytes,
            const=variables.const,
            checks=self.checks,
        )
        addresses = dict(variables.addresses)
        for name, image in variables.globals.items():
            content = np.frombuffer(image, np.uint8)
            addresses[name] = memory.add_buffer(name, content, written=True)
        memory.params = arguments.place(memory)
        memory.seal()
        program = assemble(entry, addresses)
        counters = Counters(program.instructions) if self.count else None

        def machine(ctas: Sequence[int]) -> Machine:
            cohort = Cohort(ctas, self.grid, self.block, program.registers, memory, counters)
            return Machine(program, cohort, self.budget)

        done = _run_all(map(machine, self._cohorts()), memory)
        arguments.write_back(memory)
        return Emulation(
            counters=counters,
            warp_instructions=sum(one.issued for one in done),
            thread_instructions=sum(one.threads for one in done),
            ctas=len(self.ctas),
            synchronised=memory.synchronised,
            seconds=time.perf_counter() - start,
        )

    def _cohorts(self) -> Iterator[Sequence[int]]:
        each = max(1, self.cohort_lanes // lanes_of(self.block))
        for start in range(0, len(self.ctas), each):
            yield self.ctas[start : start + each]


def _check_launch(entry: Entry, grid: Dim3, block: Dim3) -> None:
    """What the driver would refuse too."""
    threads = math.prod(block)
    if min(*grid, *block) < 1:
        raise UserError(f"grid {grid}, block {block}: every extent must be at least 1")
    if threads > MOST_THREADS:
        raise UserError(f"block {block} has {threads} threads: a CTA has at most {MOST_THREADS}")
    required = entry.directives.get("reqntid")
    if required is not None and block != required:
        raise UserError(f"block {block}: {entry.name} was compiled for {required} and no other")
    most = entry.directives.get("maxntid")
    if most is not None and threads > math.prod(most):
        raise UserError(
            f"block {block} has {threads} threads: {entry.name} was compiled for at most "
            f"{math.prod(most)}"
        )


def _run_all(machines: Iterable[Machine], memory: Memory) -> list[Machine]:
    """Runs cohort after cohort; those that wait for others get their turn again."""
    waiting: deque[Machine] = deque()
    done: list[Machine] = []
    for machine in machines:
        (done if machine.run() else waiting).append(machine)
    idle = standing = 0
    while waiting:
        machine, changes = waiting.popleft(), memory.changes
        if machine.run(again=True):
            done.append(machine)
            idle = standing = 0
            continue
        waiting.append(machine)
        same = memory.changes == changes
        idle = idle + 1 if same else 0
        standing = standing + 1 if machine.stands() and same else 0
        if standing > len(waiting) or idle > PATIENCE * len(waiting):
            raise machine.deadlock()
    return done
