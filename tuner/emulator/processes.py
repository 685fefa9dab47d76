"""Processes: a launch whose CTAs have nothing to do with each other, on several cores."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from search_spaces.errors import UserError
from tuner.emulator.arguments import Arguments, Unwritten
from tuner.emulator.emulation import Emulation, joined
from tuner.emulator.isa.values import Array
from tuner.emulator.job import Job
from tuner.emulator.program import choose_entry
from tuner.emulator.ptx import read_module


@dataclass(frozen=True)
class _Part:
    """What one process did: by argument, the bytes that changed and what they became."""

    emulation: Emulation
    changes: dict[int, tuple[Array, Array]]


def run_in_processes(job: Job, processes: int) -> Emulation:
    """Runs every n-th CTA in a process of its own, n processes in all, each on its own memory.

    Afterwards ``job``'s arrays hold what all of them wrote. Raises UserError when the CTAs do
    depend on each other: by atomics, fences, or different values written to one place.
    """
    start = time.perf_counter()
    buffers = Arguments(choose_entry(read_module(job.ptx), job.entry), job.args).buffers
    # The same array twice stays one in the other process: pickle keeps what is one object one.
    views = {buffer.place: buffer.bytes for buffer in buffers.values()}
    sent = list(job.args)
    for number, buffer in buffers.items():
        view = views[buffer.place]
        sent[number] = view if buffer.written else Unwritten(view)
    parts = [
        replace(job, args=sent, ctas=job.ctas[first::processes])
        for first in range(max(1, min(processes, len(job.ctas))))
    ]
    with ProcessPoolExecutor(len(parts), mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_run_part, parts))
    after = {number: buffer.bytes.copy() for number, buffer in buffers.items()}
    for result in results:
        for number, (places, values) in result.changes.items():
            _merge(after[number], buffers[number].bytes, places, values, number)
    for number, buffer in buffers.items():
        buffer.fill(after[number])
    return joined([result.emulation for result in results], time.perf_counter() - start)


def _run_part(job: Job) -> _Part:
    """``job``'s arrays are bytes."""
    views = {number: _unwrapped(arg) for number, arg in enumerate(job.args) if _is_array(arg)}
    before = {number: view.copy() for number, view in views.items()}
    emulation = job.run()
    if emulation.synchronised:
        raise UserError(
            "the CTAs of this launch depend on each other (atomics or fences on global memory): "
            "run it in one process (processes=1)"
        )
    changes = {}
    for number, view in views.items():
        places = np.flatnonzero(view != before[number])
        changes[number] = (places, view[places])
    return _Part(emulation, changes)


def _is_array(arg: Any) -> bool:
    return isinstance(arg, np.ndarray | Unwritten)


def _unwrapped(arg: Any) -> Any:
    return arg.array if isinstance(arg, Unwritten) else arg


def _merge(view: Array, before: Array, places: Array, values: Array, number: int) -> None:
    written = view[places] != before[places]
    clash = np.flatnonzero(written & (view[places] != values))
    if len(clash):
        raise UserError(
            f"CTAs wrote different values to byte {int(places[clash[0]])} of argument {number}, in "
            "an order that nothing fixes: one process, with checks, names them"
        )
    view[places] = values
