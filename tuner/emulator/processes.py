"""Processes: a launch whose CTAs have nothing to do with each other, on several cores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from search_spaces.errors import UserError
from tuner.emulator.arguments import Unwritten
from tuner.emulator.emulation import Emulation
from tuner.emulator.isa.values import Array
from tuner.emulator.job import Job


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
    views = {number: _bytes(arg) for number, arg in enumerate(job.args) if _is_array(arg)}
    sent = [_portable(arg) for arg in job.args]
    parts = [
        replace(job, args=sent, ctas=job.ctas[first::processes])
        for first in range(max(1, min(processes, len(job.ctas))))
    ]
    with ProcessPoolExecutor(len(parts), mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_run_part, parts))
    before = {number: view.copy() for number, view in views.items()}
    for result in results:
        for number, (places, values) in result.changes.items():
            _merge(views[number], before[number], places, values, number)
    return _sum([result.emulation for result in results], time.perf_counter() - start)


def _run_part(job: Job) -> _Part:
    views = {number: _bytes(arg) for number, arg in enumerate(job.args) if _is_array(arg)}
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


def _merge(view: Array, before: Array, places: Array, values: Array, number: int) -> None:
    written = view[places] != before[places]
    clash = np.flatnonzero(written & (view[places] != values))
    if len(clash):
        raise UserError(
            f"CTAs wrote different values to byte {int(places[clash[0]])} of argument {number}, in "
            "an order that nothing fixes: one process, with checks, names them"
        )
    view[places] = values


def _sum(parts: Sequence[Emulation], seconds: float) -> Emulation:
    first, *others = parts
    for other in others:
        if first.counters is not None and other.counters is not None:
            first.counters.merge(other.counters)
    return Emulation(
        counters=first.counters,
        warp_instructions=sum(part.warp_instructions for part in parts),
        thread_instructions=sum(part.thread_instructions for part in parts),
        ctas=sum(part.ctas for part in parts),
        synchronised=False,
        seconds=seconds,
    )


def _is_array(arg: Any) -> bool:
    return isinstance(arg, np.ndarray | torch.Tensor | Unwritten)


def _bytes(arg: Any) -> Array:
    """A view of the array's memory."""
    array = arg.array if isinstance(arg, Unwritten) else arg
    if isinstance(array, torch.Tensor):
        return np.asarray(array.detach().reshape(-1).view(torch.uint8).numpy())
    return np.asarray(array.reshape(-1).view(np.uint8))


def _portable(arg: Any) -> Any:
    """As a NumPy array, whose bytes go to another process without torch's shared memory."""
    if isinstance(arg, Unwritten):
        return Unwritten(_portable(arg.array))
    return _bytes(arg) if isinstance(arg, torch.Tensor) else arg
