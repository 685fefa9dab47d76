"""Inputs: fresh random operands of a grouped GEMM on one device, and their fp32 reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.numerics import GatedSums, Tolerance, gated_bound
from search_spaces.problem import Problem
from templates.glu import ACTIVATIONS, glu, split_gate_up

# A quiet NaN that no arithmetic makes: conversions give 0x7fff. What keeps it was never written.
POISON = 0x7EA5
GUARD_ROWS = 256  # rows before and after C that nothing may write: the largest tile
SAMPLED_ROWS = 512
SCRATCH_BYTES = 1 << 30  # of fp32 temporaries at a time; with all they need, below 2 GB


@dataclass(frozen=True)
class Inputs:
    """A[rows, K] and B[E, N, K] in fp16, offsets int32[E+1]; C with guard rows around it.

    A problem that gathers has A[tokens, K] and ``tokens``, int32[rows]: which token a row reads.
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
    guarded_c: torch.Tensor
    histogram: Sequence[int]

    @property
    def rows(self) -> int:
        """Rows of C, and of A unless they are gathered."""
        return self.guarded_c.shape[0] - 2 * GUARD_ROWS

    @property
    def c(self) -> torch.Tensor:
        """C[rows, columns], without its guard rows."""
        return self.guarded_c[GUARD_ROWS : GUARD_ROWS + self.rows]

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
    return operands + 2 * (rows + 2 * GUARD_ROWS) * problem.columns + 2 * SCRATCH_BYTES


def make_inputs(problem: Problem, bucket: Bucket, seed: int, device: torch.device) -> Inputs:
    """Draw operands from ``seed``. Raises UserError when they do not fit the device's memory."""
    return draw_inputs(problem, bucket, bucket.histogram(problem, seed), seed, device)


def draw_inputs(
    problem: Problem, bucket: Bucket, histogram: Sequence[int], seed: int, device: torch.device
) -> Inputs:
    """The same for a routing of the caller's: ``histogram`` is rows per expert, [E]."""
    rows = sum(histogram)
    if device.type == "cuda":
        _require_memory(problem, bucket, rows, device)
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float16, device=device).normal_(generator=generator)

    return Inputs(
        problem=problem,
        bucket=bucket,
        seed=seed,
        a=normal(problem.rows_of_a(rows), problem.k),
        b=normal(problem.experts, problem.n, problem.k).mul_(problem.k**-0.5),
        offsets=torch.tensor([0, *accumulate(histogram)], dtype=torch.int32, device=device),
        tokens=_tokens(problem, histogram, seed).to(device) if problem.gather else None,
        guarded_c=torch.empty(
            (rows + 2 * GUARD_ROWS, problem.columns), dtype=torch.float16, device=device
        ),
        histogram=histogram,
    )


def _tokens(problem: Problem, histogram: Sequence[int], seed: int) -> torch.Tensor:
    """int32[rows]: each token top_k times, at random; ascending within an expert, as a stable sort
    by expert leaves them. The last token may lack some of its rows."""
    rows = sum(histogram)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(rows, generator=generator) // problem.top_k
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


def sampled_reference(inputs: Inputs, count: int = SAMPLED_ROWS) -> Reference:
    """Reference of ``count`` random rows, and of the first and last row of every active expert.

    The ends are where a tile's predicates can go wrong. Returns rows in ascending order.
    """
    ends = [0, *accumulate(inputs.histogram)]
    borders = {row for a, b in pairwise(ends) if a < b for row in (a, b - 1)}
    # Drawn on the host, so that a seed means the same rows on every device.
    generator = torch.Generator().manual_seed(inputs.seed)
    drawn = torch.randperm(inputs.rows, generator=generator)[:count].tolist()
    rows = torch.tensor(sorted(borders | set(drawn)), device=inputs.a.device)
    blocks = list(_blocks(inputs, rows))
    return Reference(
        rows,
        torch.cat([block.values for block in blocks]),
        torch.cat([block.scale for block in blocks]),
        epilogue=inputs.problem.epilogue,
    )


def full_reference(inputs: Inputs) -> Iterator[Reference]:
    """Reference of every row, in blocks that fit the scratch memory."""
    return _blocks(inputs, torch.arange(inputs.rows, device=inputs.a.device))


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
