"""Shortlist: what the cost model thinks best, before anything is compiled."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tuner.view import View

CLIMBERS = 8  # configs whose neighbourhoods are searched
STEPS = 12  # at most, for each of them

Score = Callable[[Any], float]


def shortlist(view: View, score: Score, ranked: int, wanted: int, rng: random.Random) -> list[Any]:
    """Up to ``wanted`` configs with the smallest ``score`` (microseconds), best first.

    ``ranked`` configs are drawn (or all, where there are no more), the best of them climb to
    better neighbours. Those listed differ from each other in two parameters at least: the model
    can hardly tell closer ones apart, and they would teach the search nothing new.
    """
    everything = view.count <= ranked
    pool = set(view) if everything else {view.sample(rng) for _ in range(ranked)}
    times = {config: score(config) for config in pool}
    if not everything:
        for config in _best(times)[:CLIMBERS]:
            times.update(_climb(view, score, config, times[config]))
    return _spread(_best(times), view, wanted)


def _best(times: dict[Any, float]) -> list[Any]:
    return sorted(times, key=lambda config: (times[config], str(config)))


def _climb(view: View, score: Score, config: Any, time: float) -> Iterator[tuple[Any, float]]:
    """The configs met on the way downhill, with their times."""
    for _ in range(STEPS):
        steps = [(score(near), str(near), near) for near in view.neighbours(config)]
        for near_time, _, near in steps:
            yield near, near_time
        if not steps or min(steps)[0] >= time:
            return
        time, _, config = min(steps)


def _spread(order: list[Any], view: View, wanted: int) -> list[Any]:
    names = [parameter.name for parameter in view.space.parameters]
    chosen: list[tuple[Any, tuple[Any, ...]]] = []
    for config in order:
        values = tuple(getattr(config, name) for name in names)
        if all(sum(a != b for a, b in zip(values, v, strict=True)) > 1 for _, v in chosen):
            chosen.append((config, values))
        if len(chosen) == wanted:
            break
    return [config for config, _ in chosen]
