"""Permutation in plain torch: slots sorted by expert, on a CPU the answer, on a GPU the oracle."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Permutation(NamedTuple):
    """``offsets`` [groups + 1]; ``rows`` and ``slots`` [offsets[-1]]; ``inverse`` [T, k]: int32."""

    offsets: torch.Tensor
    rows: torch.Tensor
    slots: torch.Tensor
    inverse: torch.Tensor


def permute_reference(
    ids: torch.Tensor,
    groups: int,
    slot_map: torch.Tensor | None = None,
    num_valid: torch.Tensor | None = None,
) -> Permutation:
    """Slots of ids int32 [T, k], sorted by (group, slot).

    With ``slot_map`` int32 [E, R], slot d of expert e belongs to group slot_map[e, d % R], without
    to group e. Skipped are slots of tokens from ``num_valid``, int32 [1], on, and those without a
    group in 0..groups - 1; they have no row, and -1 in ``inverse``.
    """
    group = _groups(ids, groups, slot_map)
    top_k = ids.shape[1]
    if num_valid is not None:
        group[num_valid.long() * top_k <= torch.arange(group.shape[0], device=ids.device)] = groups
    order = torch.sort(group, stable=True).indices
    counts = torch.bincount(group, minlength=groups + 1)[:groups]
    offsets = torch.zeros(groups + 1, dtype=torch.int32, device=ids.device)
    offsets[1:] = counts.cumsum(0)
    slots = order[: int(offsets[-1])]
    inverse = torch.full_like(group, -1, dtype=torch.int32)
    inverse[slots] = torch.arange(slots.shape[0], dtype=torch.int32, device=ids.device)
    rows = slots.div(max(top_k, 1), rounding_mode="floor")
    return Permutation(offsets, rows.int(), slots.int(), inverse.view(ids.shape))


def _groups(ids: torch.Tensor, groups: int, slot_map: torch.Tensor | None) -> torch.Tensor:
    """Group of each slot, int64 [T * k]; ``groups`` where it has none."""
    group = ids.reshape(-1).long()
    if slot_map is not None:
        experts, replicas = slot_map.shape
        known = (group >= 0) & (group < experts)
        replica = torch.arange(group.shape[0], device=ids.device) % replicas
        chosen = slot_map.long()[group.clamp(0, experts - 1), replica]
        group = torch.where(known, chosen, -1)
    return torch.where((group >= 0) & (group < groups), group, groups)
