"""Interrupt: Ctrl-C quits while nothing has begun; in a search, the first asks it to end.

SIGTERM, by which batch systems and ``timeout`` end a command, counts as Ctrl-C.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import NoReturn, TypeAlias

from search_spaces.command_line import EXIT_INTERRUPTED

Handler: TypeAlias = "Callable[[int, FrameType | None], None]"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def quit_on_interrupt() -> Iterator[None]:
    """Either signal ends the process at once; for the time before anything is written.

    As an exception it would pass for a broken installation where it hits the import of a library.
    """

    def handle(number: int, frame: FrameType | None) -> NoReturn:
        os.write(2, b"interrupted: nothing was begun\n")
        os._exit(EXIT_INTERRUPTED)

    with _handled(handle):
        yield


@contextmanager
def stop_on_interrupt(notice: Callable[[str], None]) -> Iterator[Event]:
    """An event that the first signal sets; the next one raises KeyboardInterrupt."""
    stop = Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        notice("stopping: storing what was found (Ctrl-C once more quits at once)")

    with _handled(handle):
        yield stop


@contextmanager
def _handled(handle: Handler) -> Iterator[None]:
    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
