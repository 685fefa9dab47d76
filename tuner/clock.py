"""Clock: shares the minutes of a run out among its places."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean

LEAST = 0.25  # of a place's share is for its search, however long finals take


class Clock:
    """``begin`` is called as each of ``places`` begins, ``deadline`` once when its search does, if
    it needs one; a fraction of a place is reserve.

    A place goes on after its search: what is in flight ends, the final is held, and the next one
    makes its inputs. How long is learnt from the places before, so that late ones do not pay for
    early ones.
    """

    def __init__(
        self, minutes: float | None, places: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now, self._left = now, places
        self._end = None if minutes is None else now() + 60 * minutes
        self._deadline: float | None = None
        self._overruns: list[float] = []

    def over(self) -> bool:
        """Whether all the minutes have passed."""
        return self._end is not None and self._now() >= self._end

    def begin(self) -> None:
        """Turns to the next place, which may turn out to need no search."""
        self._left -= 1

    def deadline(self) -> float | None:
        """When the present place's search ends, on the clock ``now``; None without a limit."""
        if self._end is None:
            return None
        now = self._now()
        if self._deadline is not None:
            self._overruns.append(max(0.0, now - self._deadline))
        share = max(0.0, self._end - now) / (self._left + 1)
        overrun = fmean(self._overruns) if self._overruns else 0.0
        self._deadline = now + max(share - overrun, LEAST * share)
        return self._deadline
