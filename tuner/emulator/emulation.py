"""Emulation: what a launch did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.emulator.counters import Counters


@dataclass(frozen=True)
class Emulation:
    """``counters`` is None when nothing was to be counted.

    ``synchronised``: CTAs talked to each other, by atomics or fences on global memory. ``seconds``
    is wall time, assembling included.
    """

    counters: Counters | None
    warp_instructions: int
    thread_instructions: int
    ctas: int
    synchronised: bool
    seconds: float


def joined(parts: Sequence[Emulation], seconds: float) -> Emulation:
    """Several runs of one program as one; the first one's counters take up the others'."""
    first, *others = parts
    for other in others:
        if first.counters is not None and other.counters is not None:
            first.counters.merge(other.counters)
    return Emulation(
        counters=first.counters,
        warp_instructions=sum(part.warp_instructions for part in parts),
        thread_instructions=sum(part.thread_instructions for part in parts),
        ctas=sum(part.ctas for part in parts),
        synchronised=any(part.synchronised for part in parts),
        seconds=seconds,
    )
