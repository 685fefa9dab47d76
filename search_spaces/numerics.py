"""How far a grouped GEMM's result may lie from the exact one, for each way of accumulating.

An element C = sum over k of a_k b_k is accepted when

    |C - C_exact| <= relative |C_exact| + scale S + absolute

with S its natural scale. There are two bounds:

* ``tolerance``: S = sqrt(sum a_k^2 b_k^2), the standard deviation of a sum whose terms have random
  signs. Rounding errors are modelled as random too: the bound holds with large probability for
  every element of a large C, and a single missing k-step of 8 breaks it (not for plain ``f16``
  over thousands of products, whose honest error is larger than that).
* ``worst_case``: S = sum |a_k b_k|. A theorem, for inputs of any kind (equal signs, outliers).

What the hardware does (Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor
cores", PeerJ Computer Science 7, 2021): products of fp16 are exact; a block of 4 products (8 on
newer cores) and the accumulator are aligned to the largest and added with truncation; an fp32
result is truncated towards zero, an fp16 result rounded to nearest.

Splitting K over warps or CTAs only shortens the chains of additions: the bounds hold for it too.

A gated epilogue makes C = act(g) u of two such sums; ``gated_bound`` says how far it may be off.
Combined rows make C = sum over j of w_j s_j of such sums s_j; ``combined_bound`` is for these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HALF_ULP_F16 = 2.0**-11
ULP_F32 = 2.0**-23
SMALLEST_STEP_F16 = 2.0**-24  # distance of fp16 numbers near zero
MMA_K = 8  # products that one m16n8k8 adds into an accumulator
BLOCK = 4  # products added between two truncations, on the oldest tensor cores
PROMOTION_UNIT = 16  # "f16pP" promotes every P k-steps of this many products

# Rounding errors: 4 half-steps of an fp16 chain as long as its square root. A uniform error of one
# half-step has sigma 1/sqrt(3); averaged over a random walk that ends at S, sqrt(1/6): 4 is 9.8
# sigma there, and leaves 4 sigma for a walk that stays 2.4 times farther out than its typical one.
ROUNDING_SIGMAS = 4.0
# Truncation has a mean: half an ulp of the running sum, always towards zero. Over a walk that ends
# at its 6 sigma point the sum is 3 S on average.
TRUNCATION_WALK = 3.0

# Largest |act'(x)|: silu 1.0998 near x = 2.4, gelu in its tanh form 1.1290 near 1.45.
STEEPEST: Mapping[str, float] = {"swiglu": 1.1, "geglu": 1.13, "reglu": 1.0}
# Relative, of act computed in fp32: ex2.approx errs by 2 ulp (CUDA's __expf), its argument by an
# ulp or two of at most 88 log2(e) and div.approx by 2 ulp. Smaller results vanish beside fp16.
ACTIVATION_ERROR = 2.0**-15


@dataclass(frozen=True)
class Tolerance:
    """``relative`` multiplies |C|, ``scale`` multiplies S; ``absolute`` stands alone."""

    relative: float
    scale: float
    absolute: float


def promotion_period(acc: str, k: int) -> int:
    """Products in one unbroken chain of fp16 additions: 0 for ``f32``, K for ``f16``.

    ``acc`` as in a config's name: ``f32``, ``f16`` or ``f16pP``.
    """
    if acc == "f32":
        return 0
    return k if acc == "f16" else min(k, PROMOTION_UNIT * int(acc.removeprefix("f16p")))


def tolerance(acc: str, k: int) -> Tolerance:
    """The stated bound for operands with random signs; S = sqrt(sum a^2 b^2).

    * relative 2^-11: the fp16 rounding of C itself.
    * fp32 sums: K/4 truncations, each 2^-24 |running sum| on average, all towards zero:
      3 (K/4) 2^-24 S. (4 % of it would be the random part, sqrt(K/4) 2^-23.)
    * fp16 chains of p products: p/8 roundings of up to 2^-11 |running sum|. A chain's sum has scale
      S sqrt(p/K) and there are K/p independent chains, so their errors add up to
      4 x 2^-11 sqrt(p/8) S, whatever K is: promoting more often is what makes it small.
    """
    period = promotion_period(acc, k)
    truncation = TRUNCATION_WALK * (k / BLOCK) * ULP_F32 / 2
    rounding = ROUNDING_SIGMAS * HALF_ULP_F16 * math.sqrt(period / MMA_K)
    # In the subnormal range a rounding errs by half a step, whatever the sum.
    steps = 1 + (k / MMA_K if period else 0)
    absolute = SMALLEST_STEP_F16 / 2 * steps
    return Tolerance(HALF_ULP_F16, truncation + rounding, absolute)


def worst_case(acc: str, k: int) -> Tolerance:
    """A bound that always holds while no fp16 sum overflows (65504); S = sum |a b|.

    Every partial sum is at most S. fp32: each of K/4 blocks truncates 5 aligned addends, each by
    less than an ulp of the largest, 5 x 2^-23 S. fp16: each of p/8 steps of each chain errs by a
    half-ulp of its running sum; within one chain the errors grow like (1 + 2^-11)^(p/8), and the
    chains' scales add up to S. The rounding of C multiplies all of it by 1 + 2^-11.
    """
    period = promotion_period(acc, k)
    truncation = (BLOCK + 1) * (k / BLOCK) * ULP_F32
    rounding = math.expm1(period / MMA_K * math.log1p(HALF_ULP_F16))
    bound = tolerance(acc, k)
    scale = ((1 + truncation) * (1 + rounding) - 1) * (1 + HALF_ULP_F16)
    return Tolerance(bound.relative, scale, bound.absolute)


@dataclass(frozen=True)
class GatedSums:
    """The exact g and u, ``act`` = act(g), and the natural scales of both sums.

    Numbers, or arrays or tensors of one shape.
    """

    gate: Any
    up: Any
    act: Any
    gate_scale: Any
    up_scale: Any


def gated_bound(epilogue: str, bound: Tolerance, sums: GatedSums) -> Any:
    """How far C = act(g) u may lie from the exact product, where ``bound`` holds for g and u.

    The sums stay in fp32, so they err by e = scale S + absolute each, without the rounding of C.
    With L the steepest slope of act, |act(g') - act(g)| <= L e_g, so before any rounding

        |act(g') u' - act(g) u| <= L e_g (|u| + e_u) + |act(g)| e_u.

    The activation and the product multiply the result by 1 + 2^-15 and the rounding to fp16 by
    1 + 2^-11. A result beyond 65504 becomes 65504, in the kernel as in what it is compared with:
    that brings the two nearer.
    """
    gate_error = bound.scale * sums.gate_scale + bound.absolute
    up_error = bound.scale * sums.up_scale + bound.absolute
    slope = STEEPEST[epilogue]
    spread = slope * gate_error * (abs(sums.up) + up_error) + abs(sums.act) * up_error
    grown = (1 + HALF_ULP_F16) * (1 + ACTIVATION_ERROR)
    return grown * spread + (grown - 1) * abs(sums.act * sums.up) + SMALLEST_STEP_F16 / 2


@dataclass(frozen=True)
class CombinedSums:
    """Of the rows s_j that make one of C with weights w_j: ``total`` = sum w_j s_j, exactly,
    ``size`` = sum |w_j s_j|, ``scale`` = sum |w_j| S_j and ``weight`` = sum |w_j|.

    Numbers, or arrays or tensors that broadcast to one shape. ``count`` is the number of rows.
    """

    total: Any
    size: Any
    scale: Any
    weight: Any
    count: int


def combined_bound(bound: Tolerance, sums: CombinedSums) -> Any:
    """How far C = sum w_j s_j may lie from the exact sum, where ``bound`` holds for each s_j.

    The sums stay in fp32 until they are weighted, so they err by e_j = scale S_j + absolute, and
    together by E = sum |w_j| e_j. Then each product is rounded to fp32 and to fp16, which errs by
    u = 2^-11 + 2^-24 of it or half a step of 2^-24; adding ``count`` of them in fp32 errs by at
    most count 2^-24 of the sum of their sizes; and C is rounded to fp16:

        (1 + 2^-11) (E + (u + count 2^-24) (size + E) + count 2^-25) + 2^-11 |C| + 2^-25.

    The bound holds for fp32 sums in any order too: they leave the rounding to fp16 out. What
    saturates at 65504 saturates in what it is compared with: that brings the two nearer.
    """
    drift = bound.scale * sums.scale + bound.absolute * sums.weight
    rounding = HALF_ULP_F16 + (1 + sums.count) * ULP_F32 / 2
    steps = sums.count * SMALLEST_STEP_F16 / 2
    before = drift + rounding * (sums.size + drift) + steps
    grown = 1 + HALF_ULP_F16
    return grown * before + HALF_ULP_F16 * abs(sums.total) + SMALLEST_STEP_F16 / 2
