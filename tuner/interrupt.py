"""Interrupt: the first Ctrl-C asks the search to end, the second ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def stop_on_interrupt(notice: Callable[[str], None]) -> Iterator[Event]:
    """An event that the first SIGINT sets; the next one raises KeyboardInterrupt as usual."""
    stop = Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        notice("stopping: storing what was found (Ctrl-C once more quits at once)")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
