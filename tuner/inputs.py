"""Inputs: fresh random operands of a grouped GEMM on one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.problem import Problem

# A quiet NaN that no arithmetic makes: conversions give 0x7fff. What keeps it was never written.
POISON = 0x7EA5
GUARD_ROWS = 256  # rows before and after C that nothing may write: the largest tile
SCRATCH_BYTES = 1 << 30  # of the reference's fp32 temporaries; with all they need, below 2 GB


@dataclass(frozen=True)
class Inputs:
    """A[rows, K] and B[E, N, K] in fp16, offsets int32[E+1]; C with guard rows around it.

    A problem that gathers has A[tokens, K] and ``tokens``, int32[rows]: which token a row reads.
    One that combines has C[tokens, N], ``slots``, int32[rows]: token x top_k + j of a row, and
    ``weights``, float32[tokens, top_k], those of a token positive with the sum 1.
    ``histogram`` is the host's copy of rows per expert. A ~ N(0, 1) and B ~ N(0, 1/K), so that
    C ~ N(0, 1): random signs and mantissas, as zeros would run up to 15 % faster.
    """

    problem: Problem
    bucket: Bucket
    seed: int
    a: torch.Tensor
    b: torch.Tensor
    offsets: torch.Tensor
    tokens: torch.Tensor | None
    slots: torch.Tensor | None
    weights: torch.Tensor | None
    guarded_c: torch.Tensor
    histogram: Sequence[int]

    @property
    def rows(self) -> int:
        """Sorted rows: those of A unless they are gathered, of C unless they are combined."""
        return sum(self.histogram)

    @property
    def c(self) -> torch.Tensor:
        """C[rows, columns], without its guard rows."""
        return self.guarded_c[GUARD_ROWS:-GUARD_ROWS]

    @property
    def operands(self) -> tuple[torch.Tensor | None, ...]:
        """The kernel's pointers in the order of its parameters, None for null; C is the third."""
        return (self.a, self.b, self.c, self.offsets, self.tokens, self.slots, self.weights)

    @property
    def active_experts(self) -> int:
        """Experts with at least one row: their weights must be read."""
        return sum(count > 0 for count in self.histogram)

    def rows_of_a(self, rows: torch.Tensor) -> torch.Tensor:
        """What the rows numbered so multiply, [S, K] in fp32."""
        return self.a[rows if self.tokens is None else self.tokens[rows]].float()

    def poison(self) -> None:
        """Fill C and its guard rows with the NaN pattern that tells what was never written."""
        self.guarded_c.view(torch.int16).fill_(POISON)


def needed_bytes(problem: Problem, rows: int) -> int:
    """Device memory for inputs, C and the reference's temporaries."""
    operands = problem.experts * problem.expert_bytes + 2 * problem.rows_of_a(rows) * problem.k
    c_rows = problem.rows_of_c(rows) + 2 * GUARD_ROWS
    return operands + 2 * c_rows * problem.columns + 2 * SCRATCH_BYTES


def make_inputs(problem: Problem, bucket: Bucket, seed: int, device: torch.device) -> Inputs:
    """Draw operands from ``seed``. Raises UserError when they do not fit the device's memory."""
    return draw_inputs(problem, bucket, bucket.histogram(problem, seed), seed, device)


def draw_inputs(
    problem: Problem, bucket: Bucket, histogram: Sequence[int], seed: int, device: torch.device
) -> Inputs:
    """The same for a routing of the caller's: ``histogram`` is rows per expert, [E].

    Rows that are combined come as whole tokens.
    """
    rows = sum(histogram)
    if device.type == "cuda":
        _require_memory(problem, bucket, rows, device)
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float16, device=device).normal_(generator=generator)

    slots = _slots(histogram, seed).to(device) if problem.gather or problem.combine else None
    tokens = None if slots is None else (slots // problem.top_k).to(torch.int32)
    weights = normal(problem.tokens(rows), problem.top_k).float().softmax(dim=1)
    return Inputs(
        problem=problem,
        bucket=bucket,
        seed=seed,
        a=normal(problem.rows_of_a(rows), problem.k),
        b=normal(problem.experts, problem.n, problem.k).mul_(problem.k**-0.5),
        offsets=torch.tensor([0, *accumulate(histogram)], dtype=torch.int32, device=device),
        tokens=tokens if problem.gather else None,
        slots=slots if problem.combine else None,
        weights=weights if problem.combine else None,
        guarded_c=torch.empty(
            (problem.rows_of_c(rows) + 2 * GUARD_ROWS, problem.columns),
            dtype=torch.float16,
            device=device,
        ),
        histogram=histogram,
    )


def _slots(histogram: Sequence[int], seed: int) -> torch.Tensor:
    """int32[rows]: each slot once, at random; ascending within an expert, as a stable sort by
    expert leaves them. Where they are no whole tokens, the last one lacks some."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(sum(histogram), generator=generator)
    parts = [part.sort().values for part in drawn.split(list(histogram))]
    return torch.cat(parts).to(torch.int32)


def _require_memory(problem: Problem, bucket: Bucket, rows: int, device: torch.device) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    needed = needed_bytes(problem, rows)
    if needed > free:
        raise UserError(
            f"{problem} at {bucket} needs {needed / 1e9:.1f} GB of GPU memory and {free / 1e9:.1f} "
            "GB are free: choose smaller buckets, or fewer experts with --shape"
        )
