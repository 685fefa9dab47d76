"""Configs that together show every valid pair of values of any two parameters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from search_spaces import SpaceView

Pair = tuple[tuple[str, Any], tuple[str, Any]]


def pairs_of(config: Any, names: Sequence[str]) -> set[Pair]:
    """The pairs of (parameter, value) that a config shows."""
    values = [(name, getattr(config, name)) for name in names]
    return set(combinations(values, 2))


def covering(view: SpaceView, names: Sequence[str], seed: int, draws: int) -> list[Any]:
    """Greedy cover: of ``draws`` random configs, those that show a pair none before has shown.

    Later configs are dropped again where the rest already shows all their pairs.
    """
    rng = random.Random(seed)
    pool = [view.sample(rng) for _ in range(draws)]
    wanted = set().union(*(pairs_of(config, names) for config in pool))
    chosen = []
    while wanted:
        best = max(pool, key=lambda config: len(pairs_of(config, names) & wanted))
        chosen.append(best)
        wanted -= pairs_of(best, names)
    return chosen
