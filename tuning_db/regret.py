"""Regret: what a bucket's winner loses, at the points of its range that were measured.

A *point* lies halfway between two buckets, at the edge of the one's range and of the other's, and
was not searched: only a final was held there, among the winners and runners-up of both. It tells
what either winner takes there and what the best takes. Where that made the point a bucket of its
own, it has a winner, and points on either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from search_spaces.bucket import Bucket, bucket_between
from search_spaces.problems import AnyProblem
from tuning_db.finals import last_final, mean_us
from tuning_db.records import Source, Winner
from tuning_db.selection import select
from tuning_db.store import TuningDB
from tuning_db.tunings import count_of, tuned_bucket


@dataclass(frozen=True)
class Regret:
    """``bucket``'s winner at ``point``, its range's ``low`` or ``high`` edge or its ``middle``.

    Times are microseconds; ``time_us`` is None where the winner does not work there.
    ``selected_us`` is the time of what selection takes at an edge, weighing the buckets on both
    sides, None where that was not timed. ``split`` tells an edge that is a bucket of its own.
    """

    problem: AnyProblem
    gpu_name: str
    bucket: Bucket
    point: Bucket
    where: str
    winner: str
    time_us: float | None
    best: str
    best_us: float
    selected_us: float | None
    split: bool
    source: Source

    @property
    def share(self) -> float:
        """How much longer the winner takes than the best: 0.03 is 3 %. inf where it fails."""
        return math.inf if self.time_us is None else self.time_us / self.best_us - 1

    @property
    def selected_share(self) -> float | None:
        """The same of what selection takes."""
        return None if self.selected_us is None else self.selected_us / self.best_us - 1


def regrets(db: TuningDB, problem: AnyProblem, gpu_name: str) -> list[Regret]:
    """All that are known of a problem on a GPU model: bucket by bucket, each from low to high."""
    found: list[Regret] = []
    for _, group in groupby(db.buckets(problem, gpu_name), key=lambda bucket: bucket.skew):
        places = {bucket: _Place(db, problem, bucket, gpu_name) for bucket in group}
        line = [each for each in places.values() if each.searched and each.winner is not None]
        for place in line:
            found += place.middle()
        for low, high in pairwise(line):
            found += _between(low, high, places)
    return sorted(found, key=_order)


def regrets_at(
    db: TuningDB, problem: AnyProblem, point: Bucket, gpu_name: str, ends: tuple[Winner, Winner]
) -> list[Regret]:
    """Those of the winners below and above at a point between them, as far as it timed them."""
    return _Place(db, problem, point, gpu_name).edges(*ends)


def _order(regret: Regret) -> tuple[str, float, float]:
    bucket, point = regret.bucket, regret.point
    return str(bucket.skew), bucket.tokens_per_expert, point.tokens_per_expert


def _between(low: _Place, high: _Place, places: Mapping[Bucket, _Place]) -> list[Regret]:
    """Of the edge between two buckets and, where that is a bucket, of what it divides."""
    bucket = bucket_between(low.problem, low.bucket, high.bucket)
    point = None if bucket is None else places.get(bucket)
    if point is None or low.winner is None or high.winner is None:
        return []
    edges = point.edges(low.winner, high.winner)
    if point.winner is None:
        return edges
    inner = _between(low, point, places) + _between(point, high, places)
    return [*edges, *point.middle(), *inner]


class _Place:
    """A bucket or point as the DB knows it; ``times`` of its last final are means over cards."""

    def __init__(self, db: TuningDB, problem: AnyProblem, bucket: Bucket, gpu_name: str) -> None:
        self._db, self.problem, self._gpu_name, self.bucket = db, problem, gpu_name, bucket
        self.winner = db.winner(problem, bucket, gpu_name)
        trials = db.trials(problem, bucket, gpu_name)
        self.searched = not all(trial.is_finalist for trial in trials)
        self._final = last_final(trials)
        means = {config: mean_us(records) for config, records in self._final.items()}
        self._times = {config: mean for config, mean in means.items() if mean is not None}

    def middle(self) -> list[Regret]:
        """Of its own winner: none, unless the final decided otherwise."""
        return [] if self.winner is None else self._of(self.winner, "middle", None)

    def edges(self, low: Winner, high: Winner) -> list[Regret]:
        """Of the winners below and above."""
        selected_us = self._selected_us([low, high])
        return self._of(low, "high", selected_us) + self._of(high, "low", selected_us)

    def _of(self, winner: Winner, where: str, selected_us: float | None) -> list[Regret]:
        config = winner.trial.config
        if config not in self._final or not self._times:
            return []
        best_us, best = min((time_us, name) for name, time_us in self._times.items())
        regret = Regret(
            self.problem,
            self._gpu_name,
            bucket=winner.bucket,
            point=self.bucket,
            where=where,
            winner=config,
            time_us=self._times.get(config),
            best=best,
            best_us=best_us,
            selected_us=selected_us,
            split=where != "middle" and self.winner is not None,
            source=self._final[config][0].source,
        )
        return [regret]

    def _selected_us(self, ends: Sequence[Winner]) -> float | None:
        trials = [trial for records in self._final.values() for trial in records]
        default = next((trial.config for trial in trials if trial.is_default), "")
        names = {default, *(winner.trial.config for winner in ends)}
        tuned = [tuned_bucket(self._db, winner, names) for winner in ends]
        count, skew = count_of(self.problem, self.bucket), self.bucket.skew
        choice = select(tuned, count, default, skew=skew, top_k=self.problem.top_k)
        return self._times.get(choice.config)
