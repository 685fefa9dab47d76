"""Bucket: a range of tokens per expert, and the routing skew it stands for."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.errors import UserError
from search_spaces.problems import AnyProblem

LARGEST = 4096  # tokens per expert of the last bucket
NARROWEST = 1.5  # buckets closer than this ratio have none between them: little is left to win


def _short(value: float) -> str:
    """The shortest text that reads back as the same number; 4/60 experts has 17 digits."""
    return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class Skew:
    """How unevenly tokens fall on experts: ``uniform`` or ``zipf`` with P(rank r) ~ r^-exponent."""

    kind: str = "uniform"
    exponent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Skew:
        """Read ``uniform`` or ``zipf:1.2``. Raises UserError for anything else."""
        kind, _, exponent = text.partition(":")
        if text == "uniform":
            return cls()
        try:
            value = float(exponent)
        except ValueError:
            value = math.nan
        if kind != "zipf" or not 0 < value <= 8:
            raise UserError(f"skew '{text}': use uniform or zipf:X with 0 < X <= 8, e.g. zipf:1.2")
        return cls(kind, value)

    def __str__(self) -> str:
        return self.kind if self.kind == "uniform" else f"{self.kind}:{_short(self.exponent)}"

    def weights(self, experts: int) -> list[float]:
        """Probability of each expert, most loaded first; sums to 1."""
        raw = [(rank + 1.0) ** -self.exponent for rank in range(experts)]
        total = sum(raw)
        return [weight / total for weight in raw]


@dataclass(frozen=True)
class Bucket:
    """``tokens_per_expert`` = rows / E, where rows = T x top_k and T counts tokens before top-k."""

    tokens_per_expert: float
    skew: Skew = Skew()

    def __post_init__(self) -> None:
        if not 0 < self.tokens_per_expert <= 1 << 20:
            raise UserError(
                f"bucket {self.tokens_per_expert:g}: tokens per expert must lie in (0, 2^20]"
            )

    def __str__(self) -> str:
        return f"{_short(self.tokens_per_expert)}@{self.skew}"

    @classmethod
    def parse(cls, text: str) -> Bucket:
        """Read ``16@uniform`` or plain ``16`` (uniform)."""
        size, at, skew = text.partition("@")
        try:
            tokens = float(size)
        except ValueError:
            raise UserError(f"bucket '{text}': expected tokens per expert, e.g. 16") from None
        return cls(tokens, Skew.parse(skew if at else "uniform"))

    def tokens(self, problem: AnyProblem) -> int:
        """T, the tokens before top-k, at least one."""
        return max(1, round(self.tokens_per_expert * problem.experts / problem.top_k))

    def rows(self, problem: AnyProblem) -> int:
        """Rows of the grouped GEMM: T x top_k."""
        return self.tokens(problem) * problem.top_k

    def histogram(self, problem: AnyProblem, seed: int) -> list[int]:
        """Rows per expert, [E], as ``seed`` routes them; a token's top_k experts are distinct.

        Uniform is as even as whole rows allow; the experts that get a row more are drawn.
        """
        rng = random.Random(seed)
        experts, tokens = problem.experts, self.tokens(problem)
        order = rng.sample(range(experts), experts)
        if self.skew.kind == "uniform":
            share, extra = divmod(tokens * problem.top_k, experts)
            counts = [share + (rank < extra) for rank in range(experts)]
        else:
            counts = _zipf_counts(self.skew.weights(experts), tokens, problem.top_k)
        rows = [0] * experts
        for expert, count in zip(order, counts, strict=True):
            rows[expert] = count
        return rows


def _zipf_counts(weights: Sequence[float], tokens: int, top_k: int) -> list[int]:
    """Expected counts of ``tokens`` draws of ``top_k`` distinct experts, rounded to sum exactly.

    No expert can get more than one row of a token: what a heavy expert cannot take is shared
    among the others in proportion to their weights.
    """
    left, free = float(tokens * top_k), list(range(len(weights)))
    share = [0.0] * len(weights)
    while True:
        total = sum(weights[e] for e in free)
        full = [e for e in free if left * weights[e] / total > tokens]
        if not full:
            break
        for expert in full:
            share[expert] = float(tokens)
            left -= tokens
            free.remove(expert)
    for expert in free:
        share[expert] = left * weights[expert] / total
    counts = [math.floor(value) for value in share]
    by_remainder = sorted(range(len(share)), key=lambda e: (counts[e] - share[e], e))
    for expert in by_remainder[: tokens * top_k - sum(counts)]:
        counts[expert] += 1
    return counts


def bucket_grid(problem: AnyProblem, skew: Skew | None = None) -> list[Bucket]:
    """Every bucket of a problem: top_k/E (one token, top_k experts), then 1, 2, 4 ... 4096."""
    first = problem.top_k / problem.experts
    powers = [float(1 << i) for i in range(LARGEST.bit_length())]
    return [Bucket(size, skew or Skew()) for size in sorted({first, *powers})]


def bucket_range(bucket: Bucket, grid: Sequence[Bucket]) -> tuple[float, float]:
    """Tokens per expert [low, high) for which ``bucket`` is nearest in the grid, on a log scale."""
    sizes = sorted(b.tokens_per_expert for b in grid)
    index = sizes.index(bucket.tokens_per_expert)
    low = math.sqrt(sizes[index - 1] * sizes[index]) if index else 0.0
    high = math.sqrt(sizes[index] * sizes[index + 1]) if index + 1 < len(sizes) else math.inf
    return low, high


def bucket_between(problem: AnyProblem, low: Bucket, high: Bucket) -> Bucket | None:
    """The edge of two neighbours' ranges: halfway on a log scale, in whole tokens.

    None where they are too close for one, by ``NARROWEST`` or because no whole number is left.
    """
    if high.tokens_per_expert < NARROWEST * low.tokens_per_expert:
        return None
    middle = Bucket(math.sqrt(low.tokens_per_expert * high.tokens_per_expert), low.skew)
    tokens = middle.tokens(problem)
    if not low.tokens(problem) < tokens < high.tokens(problem):
        return None
    return Bucket(tokens * problem.top_k / problem.experts, low.skew)
