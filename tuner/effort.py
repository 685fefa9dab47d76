"""Effort: one dial for how much a search spends."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Effort:
    """Budget per (problem, bucket, GPU model), except ``minutes``, which is for the whole run.

    The cost model ranks ``ranked`` configs for free; its best ``warm`` are tried before the
    sampler's own proposals, until ``trials`` were tried (None: no limit). A config within
    ``contender`` times the best time so far is timed at length; ``finalists`` configs meet the
    default in the final.
    """

    name: str
    trials: int | None
    ranked: int
    warm: int
    finalists: int
    contender: float = 1.15
    minutes: float | None = None

    def limited(self, *, trials: int | None, minutes: float | None, exhaustive: bool) -> Effort:
        """This effort under the user's own limits.

        A time limit alone lifts the limit on trials, and so does asking for all configs.
        """
        if trials is None and minutes is None and not exhaustive:
            return self
        return replace(self, trials=trials, minutes=minutes)


QUICK = Effort("quick", trials=32, ranked=2000, warm=16, finalists=3)
FULL = Effort("full", trials=400, ranked=20000, warm=64, finalists=8)
EFFORTS = {effort.name: effort for effort in (QUICK, FULL)}
