"""Verify: is C right, wholly written, and nothing else touched? Works on any torch device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from search_spaces.numerics import Tolerance
from tuner.inputs import GUARD_ROWS, POISON, Inputs
from tuner.reference import AnyReference

_SLICE_BYTES = 256 << 20  # of C looked at per step: bounds the temporaries


@dataclass(frozen=True)
class Verdict:
    """``rel_error`` is ||C - ref|| / ||ref|| (Frobenius); ``reason`` is None when C is right."""

    rel_error: float
    reason: str | None

    @property
    def ok(self) -> bool:
        """Every element within the bound."""
        return self.reason is None


def check_writes(inputs: Inputs) -> str | None:
    """The reason when C still holds its poison somewhere, or the guard rows no longer do.

    C must have been poisoned before the kernel ran (:meth:`Inputs.poison`).
    """
    missing = _first(inputs.c, poisoned=True)
    if missing is not None:
        return f"C[{missing[0]}, {missing[1]}] was never written"
    for name, guard in (
        ("before C", inputs.guarded_c[:GUARD_ROWS]),
        ("beyond C", inputs.guarded_c[-GUARD_ROWS:]),
    ):
        touched = _first(guard, poisoned=False)
        if touched is not None:
            return f"memory {name} was written (guard row {touched[0]}, column {touched[1]})"
    return None


def _first(part: torch.Tensor, *, poisoned: bool) -> tuple[int, int] | None:
    """Row and column of the first element that is (not) poison."""
    step = max(1, _SLICE_BYTES // (part.element_size() * part.shape[1]))
    for start in range(0, part.shape[0], step):
        bits = part[start : start + step].view(torch.int16)
        hits = bits == POISON if poisoned else bits != POISON
        if hits.any():
            row, column = torch.nonzero(hits)[0].tolist()
            return start + row, column
    return None


def check_values(c: torch.Tensor, references: Iterable[AnyReference], bound: Tolerance) -> Verdict:
    """Compare rows of C[rows, columns] with their reference, element by element.

    Every element must be finite and within ``bound``. Stops at the first block with a wrong
    element; ``rel_error`` then covers the blocks seen so far.
    """
    error_square = reference_square = 0.0
    reason = None
    for reference in references:
        expected, allowed = reference.results(), reference.allowed(bound)
        columns = slice(reference.first_column, reference.first_column + expected.shape[1])
        got = c[reference.rows, columns].float()
        difference = (got - expected).abs_()
        # "not within" rather than "beyond": a NaN is neither.
        wrong = (difference <= allowed).logical_not_()
        error_square += _square(difference)
        reference_square += _square(expected)
        if wrong.any():
            reason = _describe(reference, expected, got, difference - allowed, wrong)
            break
    return Verdict(_ratio(error_square, reference_square), reason)


def _square(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def _ratio(error_square: float, reference_square: float) -> float:
    if math.isnan(error_square):
        return math.inf
    if reference_square == 0:
        return math.inf if error_square else 0.0
    return math.sqrt(error_square / reference_square)


def _describe(
    reference: AnyReference,
    expected: torch.Tensor,
    got: torch.Tensor,
    excess: torch.Tensor,
    wrong: torch.Tensor,
) -> str:
    """The worst element: NaNs come first."""
    worst = torch.argmax(torch.nan_to_num(excess, nan=math.inf))
    row, column = divmod(int(worst), got.shape[1])
    return (
        f"{int(wrong.sum())} of {wrong.numel()} elements are wrong, the worst "
        f"C[{int(reference.rows[row])}, {reference.first_column + column}] = "
        f"{float(got[row, column]):.6g} instead of "
        f"{float(expected[row, column]):.6g}"
    )
