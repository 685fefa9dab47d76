"""What a permutation should be, by Python's own sort."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

POISON = -77


@dataclass(frozen=True)
class Sorted:
    """Offsets [experts + 1], and all of rows, slots and inverse, [count] each."""

    offsets: list[int]
    rows: list[int]
    slots: list[int]
    inverse: list[int]


def sorted_slots(experts_of_slots: Sequence[int], experts: int, per_token: int) -> Sorted:
    """Rows and slots beyond the last row are poison: they must stay as they were."""
    count = len(experts_of_slots)
    some = [slot for slot in range(count) if 0 <= experts_of_slots[slot] < experts]
    order = sorted(some, key=lambda slot: (experts_of_slots[slot], slot))
    below = [sum(experts_of_slots[slot] < expert for slot in some) for expert in range(experts + 1)]
    rest = [POISON] * (count - len(order))
    place = {slot: row for row, slot in enumerate(order)}
    return Sorted(
        offsets=below,
        rows=[slot // per_token for slot in order] + rest,
        slots=order + rest,
        inverse=[place.get(slot, -1) for slot in range(count)],
    )


def drawn_ids(count: int, experts: int, seed: int) -> list[int]:
    """A tenth of them is skipped: -1, or no expert at all."""
    pick = random.Random(seed)
    odd = (-1, -1, -2, experts, 2**31 - 1, -(2**31))
    return [
        pick.choice(odd) if pick.random() < 0.1 else pick.randrange(experts) for _ in range(count)
    ]


def placement(experts: int, replicas: int, groups: int, seed: int) -> list[list[int]]:
    """A slot map [experts, replicas]: each group is one of them; all others live elsewhere."""
    slot_map = [[-1] * replicas for _ in range(experts)]
    places = random.Random(seed).sample(range(experts * replicas), groups)
    for group, place in enumerate(places):
        slot_map[place // replicas][place % replicas] = group
    return slot_map


def groups_here(
    ids: Sequence[int], slot_map: Sequence[Sequence[int]], valid_slots: int
) -> list[int]:
    """The group of each slot: slot d of an expert uses its replica d % R."""
    return [
        slot_map[expert][slot % len(slot_map[0])]
        if 0 <= expert < len(slot_map) and slot < valid_slots
        else -1
        for slot, expert in enumerate(ids)
    ]
