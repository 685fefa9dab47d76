"""Reference: what a grouped GEMM should make of its inputs, in fp32, and how far C may be off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

import torch

from search_spaces.numerics import (
    CombinedSums,
    GatedSums,
    Tolerance,
    combined_bound,
    gated_bound,
)
from templates.glu import ACTIVATIONS, LARGEST_F16, glu, split_gate_up
from tuner.inputs import SCRATCH_BYTES, Inputs

SAMPLED_ROWS = 512


@dataclass(frozen=True)
class Reference:
    """fp32 sums of some rows: ``rows`` int64[S], ``values`` and ``scale`` float32[S, N].

    ``scale`` is sqrt(sum a^2 b^2), what the error bound of :mod:`search_spaces.numerics` wants.
    S and N are those of the part told, before the ``epilogue``; its first column of C is number
    ``first_column``.
    """

    rows: torch.Tensor
    values: torch.Tensor
    scale: torch.Tensor
    first_column: int = 0
    epilogue: str = "plain"

    def results(self) -> torch.Tensor:
        """What C should hold, [S, columns]."""
        return self.values if self.epilogue == "plain" else glu(self.values, self.epilogue)

    def allowed(self, bound: Tolerance) -> torch.Tensor:
        """How far each element of C may be from that, where ``bound`` holds for the sums."""
        if self.epilogue == "plain":
            allowed = self.values.abs().mul_(bound.relative).add_(bound.absolute)
            return allowed.add_(self.scale, alpha=bound.scale)
        gate, up = split_gate_up(self.values)
        scales = split_gate_up(self.scale)
        sums = GatedSums(gate, up, ACTIVATIONS[self.epilogue](gate), *scales)
        allowed = gated_bound(self.epilogue, bound, sums)
        assert isinstance(allowed, torch.Tensor)
        return allowed


@dataclass(frozen=True)
class CombinedReference:
    """The same for some tokens whose rows are combined: ``rows`` of C int64[S], ``sums`` in fp32,
    [S, N] or [S, 1] each."""

    rows: torch.Tensor
    sums: CombinedSums
    first_column: int = 0

    def results(self) -> torch.Tensor:
        """What C should hold, [S, N]."""
        total: torch.Tensor = self.sums.total
        return total.clamp(-LARGEST_F16, LARGEST_F16)

    def allowed(self, bound: Tolerance) -> torch.Tensor:
        """How far each element of C may be from that, where ``bound`` holds for each row's sums."""
        allowed: torch.Tensor = combined_bound(bound, self.sums)
        return allowed


AnyReference: TypeAlias = "Reference | CombinedReference"


def sampled_reference(inputs: Inputs, count: int = SAMPLED_ROWS) -> AnyReference:
    """Reference of ``count`` random rows, and of the first and last row of every active expert.

    The ends are where a tile's predicates can go wrong. Returns rows in ascending order; of
    combined rows, their tokens.
    """
    ends = [0, *accumulate(inputs.histogram)]
    borders = {row for a, b in pairwise(ends) if a < b for row in (a, b - 1)}
    # Drawn on the host, so that a seed means the same rows on every device.
    generator = torch.Generator().manual_seed(inputs.seed)
    drawn = torch.randperm(inputs.rows, generator=generator)[:count].tolist()
    rows = torch.tensor(sorted(borders | set(drawn)), device=inputs.a.device)
    if inputs.slots is not None:
        tokens = torch.unique(inputs.slots[rows] // inputs.problem.top_k).to(torch.int64)
        return _combined(inputs, tokens)
    blocks = list(_blocks(inputs, rows))
    return Reference(
        rows,
        torch.cat([block.values for block in blocks]),
        torch.cat([block.scale for block in blocks]),
        epilogue=inputs.problem.epilogue,
    )


def full_reference(inputs: Inputs) -> Iterator[AnyReference]:
    """Reference of every row of C, in blocks that fit the scratch memory."""
    every = torch.arange(inputs.c.shape[0], device=inputs.a.device)
    if inputs.slots is None:
        return _blocks(inputs, every)
    most = max(1, SCRATCH_BYTES // 4 // (12 * inputs.problem.n))
    return (_combined(inputs, tokens) for tokens in every.split(most))


def part_reference(inputs: Inputs, expert: int, rows: range, columns: range) -> Reference:
    """Reference of some neighbouring rows, all of one expert, in some neighbouring columns of C.

    With a gated epilogue these begin and end where a block of gate columns does.
    """
    chosen = torch.arange(rows.start, rows.stop, device=inputs.a.device)
    each = inputs.problem.n // inputs.problem.columns  # rows of B that make a column of C
    weights = inputs.b[expert, each * columns.start : each * columns.stop]
    values, scale = _products(inputs.rows_of_a(chosen), weights)
    return Reference(chosen, values, scale, columns.start, inputs.problem.epilogue)


def _blocks(inputs: Inputs, rows: torch.Tensor) -> Iterator[Reference]:
    """Expert by expert; within one, as many rows at a time as a quarter of the scratch holds."""
    most = max(1, SCRATCH_BYTES // 4 // (8 * max(inputs.problem.n, inputs.problem.k)))
    cuts = torch.searchsorted(rows, inputs.offsets.to(torch.int64)).tolist()
    for expert, (first, last) in enumerate(pairwise(cuts)):
        for start in range(first, last, most):
            chosen = rows[start : min(start + most, last)]
            values, scale = _products(inputs.rows_of_a(chosen), inputs.b[expert])
            yield Reference(chosen, values, scale, epilogue=inputs.problem.epilogue)


def _combined(inputs: Inputs, tokens: torch.Tensor) -> CombinedReference:
    """Of some tokens, int64[S], ascending: their rows' blocks, added up as they come."""
    assert inputs.slots is not None and inputs.weights is not None
    slots, weights = inputs.slots.to(torch.int64), inputs.weights.flatten()
    place = torch.full((inputs.c.shape[0],), -1, dtype=torch.int64, device=tokens.device)
    place[tokens] = torch.arange(len(tokens), device=tokens.device)
    place_of_row = place[slots // inputs.problem.top_k]
    total, size, scale = torch.zeros(
        3, len(tokens), inputs.problem.n, device=tokens.device
    ).unbind()
    for block in _blocks(inputs, torch.nonzero(place_of_row >= 0).flatten()):
        weight = weights[slots[block.rows], None]
        weighted, where = block.values * weight, place_of_row[block.rows]
        total.index_add_(0, where, weighted)
        size.index_add_(0, where, weighted.abs_())
        scale.index_add_(0, where, block.scale * weight.abs())
    of_token = inputs.weights[tokens].abs().sum(dim=1, keepdim=True)
    sums = CombinedSums(total, size, scale, of_token, inputs.problem.top_k)
    return CombinedReference(tokens, sums)


def _products(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A[S, K] x B[N, K]^T and its scale, a slice of B's rows at a time to bound the memory."""
    step = max(1, SCRATCH_BYTES // 4 // (8 * b.shape[1]))
    squares = a.square()
    values = torch.empty((a.shape[0], b.shape[0]), device=a.device)
    scale = torch.empty_like(values)
    with full_precision():
        for start in range(0, b.shape[0], step):
            part = b[start : start + step].float()
            torch.mm(a, part.T, out=values[:, start : start + step])
            torch.mm(squares, part.square_().T, out=scale[:, start : start + step])
    return values, scale.sqrt_()


@contextmanager
def full_precision() -> Iterator[None]:
    """fp32 products in fp32: TF32 would have 10 bits of mantissa, as many as what it judges."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
