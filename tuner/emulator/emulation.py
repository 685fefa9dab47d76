"""Emulation: what a launch did."""

from __future__ import annotations

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
