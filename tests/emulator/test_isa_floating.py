"""f32 and f64 arithmetic against exact fractions, rounded by the definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.numbers_oracle import (
    decode,
    encode,
    exact_product,
    exact_sum,
    floats,
    rounded,
    same,
)
from tests.emulator.snippets import refuses, run_one
from tuner.emulator.isa.values import Array

KINDS, MODES = ("f32", "f64"), ("rn", "rz", "rm", "rp")
Exact = Callable[..., "float | Fraction"]


def check(opcode: str, kind: str, mode: str, exact: Exact, arity: int, count: int = 600) -> None:
    """Compares an instruction on samples with the rounding of exact results."""
    inputs = floats(kind, arity, count)
    operands = ", ".join(f"%{name}" for name in "abc"[:arity])
    found = run_one(f"{opcode} %x, {operands};", kind, *inputs)
    rows = zip(*(decode(v, kind).tolist() for v in inputs), strict=True)
    same(found, encode((rounded(exact(*row), kind, mode) for row in rows), kind))


def exact_quotient(a: float, b: float) -> float | Fraction:
    if math.isfinite(a) and math.isfinite(b) and a and b:
        return Fraction(a) / Fraction(b)
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


def fused(mode: str) -> Exact:
    return lambda a, b, c: exact_sum(mode, exact_product(a, b), c)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_products_round_in_every_direction(kind: str, mode: str) -> None:
    check(f"add.{mode}.{kind}", kind, mode, lambda a, b: exact_sum(mode, a, b), 2)
    check(f"sub.{mode}.{kind}", kind, mode, lambda a, b: exact_sum(mode, a, -b), 2)
    check(f"mul.{mode}.{kind}", kind, mode, exact_product, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_multiply_add_rounds_once(kind: str, mode: str) -> None:
    check(f"fma.{mode}.{kind}", kind, mode, fused(mode), 3, 1500)
    check(f"mad.{mode}.{kind}", kind, mode, fused(mode), 3, 50)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_multiply_add_near_ties(kind: str) -> None:
    """c lies half a last place beside the product, more or less a tiny bit."""
    random = np.random.default_rng(5)
    digits = 24 if kind == "f32" else 53
    a, b = (random.integers(1 << (digits - 1), 1 << digits, 400).astype(kind_of(kind))
            for _ in range(2))  # fmt: skip
    c = np.ldexp(random.choice([-1.0, 1.0, 0.5, 3.0], 400), random.integers(-80, 80, 400))
    c = c.astype(kind_of(kind))
    found = run_one(f"fma.rn.{kind} %x, %a, %b, %c;", kind, a, b, c)
    rows = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    same(found, encode((rounded(fused("rn")(*row), kind, "rn") for row in rows), kind))


def kind_of(kind: str) -> np.dtype[np.generic]:
    return np.dtype({"f32": np.float32, "f64": np.float64}[kind])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_quotients_round_in_every_direction(kind: str, mode: str) -> None:
    check(f"div.{mode}.{kind}", kind, mode, exact_quotient, 2)


def test_no_mode_is_to_the_nearest() -> None:
    check("add.f32", "f32", "rn", lambda a, b: exact_sum("rn", a, b), 2)
    check("mul.f64", "f64", "rn", exact_product, 2)
    check("div.full.f32", "f32", "rn", exact_quotient, 2)


def test_an_approximate_quotient_vanishes_for_vast_divisors() -> None:
    a = np.array([6.0, 1e38, -1e38, np.inf, np.nan, 1.0, 1.0], np.float32)
    b = np.array([3.0, 3e38, 3e38, 3e38, 3e38, np.inf, 0.0], np.float32)
    found = run_one("div.approx.f32 %x, %a, %b;", "f32", a, b)
    same(found, np.array([2, 0.0, -0.0, np.nan, np.nan, 0, np.inf], np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_sign_bits(kind: str) -> None:
    [a] = floats(kind, 1)
    raw = f"u{a.dtype.itemsize}"
    sign = a.view(raw).dtype.type(1) << (8 * a.dtype.itemsize - 1)
    same(run_one(f"neg.{kind} %x, %a;", raw_name(kind), a), a.view(raw) ^ sign)
    same(run_one(f"abs.{kind} %x, %a;", raw_name(kind), a), a.view(raw) & ~sign)
    left, right = floats(kind, 2, 100)
    expected = (right.view(raw) & ~sign) | (left.view(raw) & sign)
    same(run_one(f"copysign.{kind} %x, %a, %b;", raw_name(kind), left, right), expected)


def raw_name(kind: str) -> str:
    return f"u{kind[1:]}"


@pytest.mark.parametrize("kind", KINDS)
def test_extremes(kind: str) -> None:
    def extreme(a: float, b: float, sign: int, nan_wins: bool) -> float:
        if math.isnan(a) or math.isnan(b):
            return math.nan if nan_wins or math.isnan(b) else b
        key = [(sign * v, sign * math.copysign(1, v)) for v in (a, b)]
        return a if key[0] >= key[1] else b

    def plain(sign: int) -> Exact:
        return lambda a, b: extreme(*((b, a) if math.isnan(b) else (a, b)), sign, False)

    check(f"max.{kind}", kind, "rn", plain(1), 2)
    check(f"min.{kind}", kind, "rn", plain(-1), 2)
    if kind == "f32":
        check("max.NaN.f32", kind, "rn", lambda a, b: extreme(a, b, 1, True), 2)
        check("min.NaN.f32", kind, "rn", lambda a, b: extreme(a, b, -1, True), 2)


def flushed(value: Array) -> Array:
    return np.where(np.abs(value) < 2.0**-126, np.copysign(np.float32(0), value), value)


def test_ftz_flushes_sources_and_results() -> None:
    a, b = floats("f32", 2)
    with np.errstate(all="ignore"):
        x, y = flushed(a), flushed(b)
        expected = {"add": x + y, "sub": x - y, "mul": x * y, "div.rn": x / y}
        for opcode, value in expected.items():
            found = run_one(f"{'.'.join([opcode, 'ftz', 'f32'])} %x, %a, %b;", "f32", a, b)
            same(found, flushed(value))
    same(run_one("neg.ftz.f32 %x, %a;", "f32", a), -x)
    same(run_one("abs.ftz.f32 %x, %a;", "f32", a), np.abs(x))


def test_sat_clamps_to_one_and_drops_nan() -> None:
    a, b = floats("f32", 2)
    found = run_one("add.sat.f32 %x, %a, %b;", "f32", a, b)
    plain = run_one("add.f32 %x, %a, %b;", "f32", a, b).tolist()
    expected = [min(max(v, 0.0), 1.0) if v == v and v else 0.0 for v in plain]
    same(found, np.array(expected, np.float32))
    same(run_one("fma.rn.sat.f32 %x, %a, 0f3F800000, %b;", "f32", a, b), found)


def test_nan_is_what_a_gpu_gives() -> None:
    a = np.array([np.inf, np.nan, 0.0], np.float32)
    b = np.array([-np.inf, 1.0, np.inf], np.float32)
    assert run_one("add.f32 %x, %a, %b;", "u32", a, b).tolist()[:2] == [0x7FFFFFFF] * 2
    assert run_one("mul.f32 %x, %a, %b;", "u32", a, b).tolist()[1:] == [0x7FFFFFFF] * 2
    assert run_one("min.f32 %x, %a, %a;", "u32", a).tolist()[1] == 0x7FFFFFFF


@pytest.mark.parametrize("kind", KINDS)
def test_classes(kind: str) -> None:
    [a] = floats(kind, 1)
    values = decode(a, kind).tolist()
    least = 2.0**-126 if kind == "f32" else 2.0**-1022
    tests: dict[str, Callable[[float], bool]] = {
        "finite": math.isfinite,
        "infinite": math.isinf,
        "number": lambda v: v == v,
        "notanumber": math.isnan,
        # The manual: zeros are considered normal.
        "normal": lambda v: math.isfinite(v) and (v == 0 or abs(v) >= least),
        "subnormal": lambda v: 0 < abs(v) < least,
    }
    for name, holds in tests.items():
        found = run_one(f"testp.{name}.{kind} %x, %a;", "pred", a)
        same(found, np.array([holds(v) for v in values]))


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("add.rn.rz.f32 %x, %a, %b;", "b32 b32 b32"),
        ("add.ftz.f64 %x, %a, %b;", "b64 b64 b64"),
        ("add.rni.f32 %x, %a, %b;", "b32 b32 b32"),
        ("fma.f32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("fma.rn.relu.f32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("fma.rn.f32 %x, %a, %b;", "b32 b32 b32"),
        ("div.f32 %x, %a, %b;", "b32 b32 b32"),
        ("div.approx.f64 %x, %a, %b;", "b64 b64 b64"),
        ("min.xorsign.abs.f32 %x, %a, %b;", "b32 b32 b32"),
        ("min.NaN.f64 %x, %a, %b;", "b64 b64 b64"),
        ("min.f32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("testp.f32 %x, %a;", "pred b32"),
        ("copysign.ftz.f32 %x, %a, %b;", "b32 b32 b32"),
        ("add.f64 %x, %a, %b;", "b64 b32 b32"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
