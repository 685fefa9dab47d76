"""Skew estimate: which Zipf exponent describes a histogram of rows per expert.

The statistic is the concentration, the sum of the squared shares of rows: the chance that two rows
drawn at random go to the same expert (Simpson, Nature 163, 1949). It uses every expert, not the
heaviest alone, and sum of c (c - 1) / (n (n - 1)) estimates it without bias from n rows: what
chance adds to the squares of small samples is taken off again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from search_spaces.bucket import Bucket, Skew
from search_spaces.problem import Problem

LARGEST_EXPONENT = 4.0  # 92 % of all rows at one expert
_STEP = 0.1  # between tabled exponents; in between the concentration is all but straight
_MANY = float(1 << 20)  # rows per expert: shares to six digits
_SURE = 4.0  # standard deviations from even loads: chance alone goes as far once in 30,000 steps


def estimate_skew(histogram: Sequence[int], top_k: int = 1) -> Skew:
    """The skew that loads ``histogram``, rows per expert [E] in any order, like these.

    A token sends its rows to ``top_k`` distinct experts, so no expert gets more than 1 / top_k of
    them. Uniform where chance explains the loads, and where there are fewer rows than experts. The
    exponent is rounded to 0.01. Histograms of :meth:`Bucket.histogram` with 64 rows per expert and
    exponents from 0.5 to 2 are told to 0.06, loads that were drawn at random to 0.25. (Drawing most
    of a few experts without repeats makes loads flatter than the weights they were drawn by.)
    """
    experts, rows = len(histogram), sum(histogram)
    if experts < 2 or rows < experts:
        return Skew()
    squares = sum(count * count for count in histogram)
    if _deviation(experts, rows, squares) < _SURE:
        return Skew()
    found = _exponent(experts, top_k, (squares - rows) / (rows * (rows - 1)))
    return Skew("zipf", found) if found else Skew()


def _deviation(experts: int, rows: int, squares: int) -> float:
    """How far from even, in standard deviations of what chance makes of even routing.

    Pearson's chi-squared, made normal by its cube root (Wilson and Hilferty, PNAS 17, 1931).
    """
    freedom = experts - 1
    chi_squared = max(0.0, experts * squares / rows - rows)
    variance = 2 / (9 * freedom)
    return float(((chi_squared / freedom) ** (1 / 3) - (1 - variance)) / variance**0.5)


def _exponent(experts: int, top_k: int, concentration: float) -> float:
    table = _concentrations(experts, top_k)
    above = bisect_left(table, concentration)
    if above == 0:
        return 0.0
    if above == len(table):
        return LARGEST_EXPONENT
    low, high = table[above - 1], table[above]
    return round(_STEP * (above - 1 + (concentration - low) / (high - low)), 2)


@lru_cache(maxsize=64)
def _concentrations(experts: int, top_k: int) -> list[float]:
    """Sum of squared shares at the exponents 0, 0.1, 0.2 ... as long as it grows."""
    problem = Problem("grouped_gemm", experts, 8, 8, top_k)
    table = [1 / experts]
    for index in range(1, round(LARGEST_EXPONENT / _STEP) + 1):
        counts = Bucket(_MANY, Skew("zipf", index * _STEP)).histogram(problem, 0)
        value = sum(count * count for count in counts) / sum(counts) ** 2
        if value <= table[-1] * (1 + 1e-6):
            break
        table.append(value)
    return table
