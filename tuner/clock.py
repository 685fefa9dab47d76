"""Clock: shares the minutes of a run out among its places."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean

LEAST = 0.25  # of a place's share is for its search, however long finals take


class Clock:
    """``deadline`` is asked for once as each of ``places`` begins.

    A place goes on after its search: what is in flight ends, the final is held. How long is learnt
    from the places before, so that late ones do not pay for early ones.
    """

    def __init__(
        self, minutes: float | None, places: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now, self._left = now, places
        self._end = None if minutes is None else now() + 60 * minutes
        self._deadline: float | None = None
        self._overruns: list[float] = []

    def deadline(self) -> float | None:
        """When the next place's search ends, on the clock ``now``; None without a limit."""
        if self._end is None:
            return None
        now = self._now()
        if self._deadline is not None:
            self._overruns.append(max(0.0, now - self._deadline))
        share = max(0.0, self._end - now) / self._left
        overrun = fmean(self._overruns) if self._overruns else 0.0
        self._left -= 1
        self._deadline = now + max(share - overrun, LEAST * share)
        return self._deadline
