"""Warm start: what the cost model thinks best, before anything is compiled."""

from __future__ import annotations

import random
from typing import Any

from search_spaces.ranking import Ranking, rank
from tuner.effort import Effort
from tuner.plan import Place
from tuning_db.records import Source


def warm_start(place: Place, effort: Effort, rng: random.Random) -> list[Any]:
    """Up to ``effort.warm`` promising configs, best first, of ``effort.ranked`` scored ones.

    A recording, or a space no larger than that, is scored whole.
    """
    gpu = place.target.gpu
    if place.source is not Source.REPLAYED and place.view.count > effort.ranked:
        return rank(place.problem, place.bucket, gpu, rng, effort.ranked, effort.warm)
    ranking = Ranking(place.problem, place.bucket, gpu)
    for config in place.view:
        ranking.add(config)
    return ranking.best()[: effort.warm]
