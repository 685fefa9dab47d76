"""The stated error bounds, against a simulation of how tensor cores add."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from search_spaces.numerics import (
    STEEPEST,
    CombinedSums,
    GatedSums,
    combined_bound,
    gated_bound,
    promotion_period,
    tolerance,
    worst_case,
)

Floats = npt.NDArray[np.float64]


def truncated_sum(addends: Floats) -> Floats:
    """Sum over the last axis as a tensor core does: aligned to the largest, 24 bits, cut off."""
    _, exponent = np.frexp(np.abs(addends).max(axis=-1, keepdims=True))
    quantum = np.ldexp(1.0, exponent - 24)
    total = (np.trunc(addends / quantum) * quantum).sum(axis=-1)
    _, exponent = np.frexp(total)
    quantum = np.ldexp(1.0, exponent - 24)
    return np.asarray(np.trunc(total / quantum) * quantum)


def sums(a: Floats, b: Floats, acc: str) -> Floats:
    """[elements] dot products of [elements, K] rows as m16n8k8 adds them: two blocks of 4."""
    elements, k = a.shape
    total, chain = np.zeros(elements), np.zeros(elements)
    period = promotion_period(acc, k)
    for start in range(0, k, 8):
        for block in (start, start + 4):
            products = a[:, block : block + 4] * b[:, block : block + 4]
            chain = truncated_sum(np.concatenate([products, chain[:, None]], axis=1))
        if acc != "f32":
            chain = chain.astype(np.float16).astype(np.float64)
            if acc != "f16" and (start + 8) % period == 0:
                total, chain = (total + chain).astype(np.float32).astype(np.float64), chain * 0
    return (total + chain).astype(np.float32).astype(np.float64)


def tensor_core(a: Floats, b: Floats, acc: str) -> Floats:
    """The same as C holds them."""
    return sums(a, b, acc).astype(np.float16).astype(np.float64)


def halves(rng: np.random.Generator, elements: int, k: int, scale: float) -> Floats:
    return (rng.standard_normal((elements, k)) * scale).astype(np.float16).astype(np.float64)


def shares(a: Floats, b: Floats, acc: str) -> tuple[Floats, Floats]:
    """Errors as shares of the two bounds."""
    exact = (a * b).sum(axis=1)
    error = np.abs(tensor_core(a, b, acc) - exact)
    energy, magnitude = np.sqrt((a**2 * b**2).sum(axis=1)), np.abs(a * b).sum(axis=1)
    random, worst = tolerance(acc, a.shape[1]), worst_case(acc, a.shape[1])
    random_bound = random.relative * np.abs(exact) + random.scale * energy + random.absolute
    worst_bound = worst.relative * np.abs(exact) + worst.scale * magnitude + worst.absolute
    return error / random_bound, error / worst_bound


ACCUMULATORS = ("f32", "f16", "f16p1", "f16p4", "f16p8")


@pytest.mark.parametrize("acc", ACCUMULATORS)
@pytest.mark.parametrize("k", [64, 1024, 4096])
def test_random_signs_stay_within_the_bound_and_not_far_below(acc: str, k: int) -> None:
    rng = np.random.default_rng(7)
    random, worst = shares(halves(rng, 3000, k, 1), halves(rng, 3000, k, k**-0.5), acc)
    assert random.max() <= 1
    assert random.max() >= 0.2, "a bound this loose would miss real mistakes"
    assert worst.max() <= 1


@pytest.mark.soak
@pytest.mark.parametrize("acc", ACCUMULATORS)
def test_random_signs_over_a_long_k(acc: str) -> None:
    rng = np.random.default_rng(11)
    random, _ = shares(halves(rng, 20_000, 14336, 1), halves(rng, 20_000, 14336, 0.01), acc)
    assert 0.2 <= random.max() <= 1


@pytest.mark.parametrize("acc", ACCUMULATORS)
@pytest.mark.parametrize("case", ["equal signs", "outliers", "tiny"])
def test_inputs_of_any_kind_stay_within_the_worst_case(acc: str, case: str) -> None:
    rng = np.random.default_rng(5)
    a, b = halves(rng, 300, 1024, 1), halves(rng, 300, 1024, 1 / 32)
    if case == "equal signs":
        a, b = np.abs(a), np.abs(b)
    elif case == "outliers":
        a[:, ::97] *= 500
    else:
        a, b = a.astype(np.float16).astype(np.float64) * 2.0**-8, b * 2.0**-10
    _, worst = shares(a, b, acc)
    assert worst.max() <= 1


@pytest.mark.parametrize("acc", ["f32", "f16p1", "f16p2", "f16p4", "f16p8"])
@pytest.mark.parametrize("k", [2048, 4096, 14336])
def test_a_missing_k_step_breaks_the_bound(acc: str, k: int) -> None:
    """8 of K products missing: the error has sigma S sqrt(8/K); most elements must show it."""
    bound = tolerance(acc, k)
    one_sigma_element = bound.relative + bound.scale + bound.absolute
    assert one_sigma_element < 0.5 * math.sqrt(8 / k)


@pytest.mark.parametrize(
    ("acc", "k", "period"),
    [("f32", 4096, 0), ("f16", 4096, 4096), ("f16p1", 4096, 16), ("f16p4", 4096, 64),
     ("f16p8", 64, 64)],
)  # fmt: skip
def test_promotion_period(acc: str, k: int, period: int) -> None:
    assert promotion_period(acc, k) == period


def test_promoting_more_often_is_never_worse() -> None:
    ladder = ["f32", "f16p1", "f16p2", "f16p4", "f16p8", "f16"]
    for bound in (tolerance, worst_case):
        scales = [bound(acc, 4096).scale for acc in ladder]
        assert scales == sorted(scales)
        assert len(set(scales)) == len(scales)


def activation(epilogue: str, x: Floats) -> Floats:
    """In float64, gelu by tanh itself."""
    if epilogue == "swiglu":
        return np.asarray(x / (1 + np.exp(-x)))
    if epilogue == "geglu":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(np.maximum(x, 0))


def gated_shares(epilogue: str, acc: str, gates: Floats, operands: list[Floats]) -> Floats:
    """Errors of act(g) u as shares of the bound; ``gates`` scales the gate's operands."""
    a, b_gate, b_up = operands
    b_gate = (b_gate * gates).astype(np.float16).astype(np.float64)
    exact = [(a * b).sum(axis=1) for b in (b_gate, b_up)]
    scales = [np.sqrt((a**2 * b**2).sum(axis=1)) for b in (b_gate, b_up)]
    act = activation(epilogue, exact[0])
    found = activation(epilogue, sums(a, b_gate, acc)).astype(np.float32) * sums(a, b_up, acc)
    error = np.abs(found.astype(np.float16).astype(np.float64) - act * exact[1])
    bound = gated_bound(
        epilogue, tolerance(acc, a.shape[1]), GatedSums(exact[0], exact[1], act, *scales)
    )
    return np.asarray(error / bound)


@pytest.mark.parametrize("epilogue", STEEPEST)
@pytest.mark.parametrize("acc", ["f32", "f16p2", "f16"])
def test_gated_results_stay_within_the_bound_and_not_far_below(epilogue: str, acc: str) -> None:
    rng = np.random.default_rng(13)
    k = 512
    for gates in (0.05, 1.0, 8.0):  # the flat, the curved and the straight part of act
        operands = [halves(rng, 3000, k, 1), halves(rng, 3000, k, k**-0.5)]
        operands.append(halves(rng, 3000, k, k**-0.5))
        shares = gated_shares(epilogue, acc, np.asarray(gates), operands)
        assert 0.15 <= shares.max() <= 1


@pytest.mark.parametrize("epilogue", STEEPEST)
def test_no_activation_is_steeper_than_stated_nor_much_flatter(epilogue: str) -> None:
    x = np.linspace(-20, 20, 400_001)
    slope = np.abs(np.diff(activation(epilogue, x)) / np.diff(x)).max()
    assert 0.998 * STEEPEST[epilogue] <= slope <= STEEPEST[epilogue] * (1 + 1e-9)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("acc", ["f32", "f16p2"])
def test_combined_rows_stay_within_the_bound_and_not_far_below(acc: str, count: int) -> None:
    """Weighted in fp32, rounded to fp16, added in fp32; atomically they stay in fp32."""
    k, elements, rng = 512, 400, np.random.default_rng(count)
    a = halves(rng, count * elements, k, 1.0)
    b = halves(rng, count * elements, k, k**-0.5)
    weights = rng.random((count, elements)).astype(np.float32)
    exact = (a * b).sum(axis=1).reshape(count, elements)
    scale = np.sqrt((a**2 * b**2).sum(axis=1)).reshape(count, elements)
    products = sums(a, b, acc).reshape(count, elements).astype(np.float32) * weights
    stated = CombinedSums(
        total=(weights * exact).sum(axis=0),
        size=np.abs(weights * exact).sum(axis=0),
        scale=(weights * scale).sum(axis=0),
        weight=weights.sum(axis=0),
        count=count,
    )
    allowed = combined_bound(tolerance(acc, k), stated)
    for parts in (products.astype(np.float16), products):
        total = np.zeros(elements, np.float32)
        for part in parts.astype(np.float32):
            total += part
        share = np.abs(total.astype(np.float16).astype(np.float64) - stated.total) / allowed
        assert 0.1 < share.max() <= 1
    left_out = np.abs(stated.total - (weights * exact)[1:].sum(axis=0)) > allowed
    assert left_out.mean() > 0.85  # a slot: some weights are next to nothing
