"""Configs that together show every valid pair of values of any two parameters."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from search_spaces import SpaceView

Pair = tuple[tuple[str, Any], tuple[str, Any]]


def pairs_of(config: Any, names: Sequence[str]) -> set[Pair]:
    """The pairs of (parameter, value) that a config shows."""
    values = [(name, getattr(config, name)) for name in names]
    return set(combinations(values, 2))


def covering(
    view: SpaceView,
    names: Sequence[str],
    seed: int,
    draws: int,
    keep: Callable[[Any], bool] = lambda config: True,
) -> list[Any]:
    """Greedy cover of all pairs that ``draws`` random configs show, of those ``keep`` accepts."""
    rng = random.Random(seed)
    pool = [config for config in (view.sample(rng) for _ in range(draws)) if keep(config)]
    wanted = set().union(*(pairs_of(config, names) for config in pool))
    chosen = []
    while wanted:
        best = max(pool, key=lambda config: len(pairs_of(config, names) & wanted))
        chosen.append(best)
        wanted -= pairs_of(best, names)
    return chosen
