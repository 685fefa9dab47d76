"""The torch reference of moe_permute against Python's own sort."""

from __future__ import annotations

import pytest
import torch

from templates.permute_reference import permute_reference
from tests.permutation_oracle import drawn_ids, groups_here, placement, sorted_slots


def ints(values: object, *shape: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32).reshape(shape)


@pytest.mark.parametrize(
    ("experts", "replicas", "groups", "top_k", "tokens", "valid"),
    [
        (7, 0, 7, 3, 50, None),
        (1, 0, 1, 1, 1, None),
        (5, 0, 5, 2, 0, None),
        (6, 0, 6, 2, 40, 0),
        (6, 0, 6, 2, 40, 13),
        (6, 0, 6, 2, 40, 99),
        (16, 2, 9, 5, 60, 41),
        (4, 3, 12, 4, 30, None),
    ],
)
def test_agrees_with_pythons_sort(
    experts: int, replicas: int, groups: int, top_k: int, tokens: int, valid: int | None
) -> None:
    ids = drawn_ids(tokens * top_k, experts, seed=tokens)
    slot_map = placement(experts, replicas, groups, seed=top_k) if replicas else None
    everyone = [[expert] for expert in range(experts)]
    valid_slots = len(ids) if valid is None else valid * top_k
    expected = sorted_slots(groups_here(ids, slot_map or everyone, valid_slots), groups, top_k)
    found = permute_reference(
        ints(ids, tokens, top_k),
        groups,
        None if slot_map is None else ints(slot_map, experts, replicas),
        None if valid is None else ints([valid], 1),
    )
    rows = expected.offsets[-1]
    assert all(tensor.dtype is torch.int32 for tensor in found)
    assert found.offsets.tolist() == expected.offsets
    assert found.rows.tolist() == expected.rows[:rows]
    assert found.slots.tolist() == expected.slots[:rows]
    assert found.inverse.shape == (tokens, top_k)
    assert found.inverse.flatten().tolist() == expected.inverse
