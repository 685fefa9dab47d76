"""Reciprocals, roots and transcendental functions: exact where they are rounded, within the
manual's bounds where they are approximations."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.numbers_oracle import decode, encode, floats, rounded, same
from tests.emulator.snippets import refuses, run_one
from tuner.emulator.isa.values import Array

MODES = ("rn", "rz", "rm", "rp")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_reciprocals_round_in_every_direction(kind: str, mode: str) -> None:
    [a] = floats(kind, 1, 600)
    found = run_one(f"rcp.{mode}.{kind} %x, %a;", kind, a)

    def reciprocal(value: float) -> float | Fraction:
        if value == 0 or not math.isfinite(value):
            return math.copysign(math.inf, value) if value == 0 else 1 / value
        return 1 / Fraction(value)

    values = decode(a, kind).tolist()
    same(found, encode((rounded(reciprocal(v), kind, mode) for v in values), kind))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_roots_round_in_every_direction(kind: str, mode: str) -> None:
    [plain] = floats(kind, 1, 600)
    squares = np.arange(100, dtype=plain.dtype) ** 2
    a = np.concatenate([plain, squares])
    found = decode(run_one(f"sqrt.{mode}.{kind} %x, %a;", kind, a), kind).tolist()
    for value, root in zip(decode(a, kind).tolist(), found, strict=True):
        if not value > 0:
            assert (
                math.isnan(root)
                if value != 0
                else math.copysign(1, root) == math.copysign(1, value)
            )
        elif math.isinf(value):
            assert root == math.inf
        else:
            _check_root(Fraction(value), root, kind, mode)


def _check_root(value: Fraction, root: float, kind: str, mode: str) -> None:
    typed = np.array([root], {"f32": np.float32, "f64": np.float64}[kind])
    below, above = (float(np.nextafter(typed, typed.dtype.type(to))[0]) for to in (0, np.inf))
    low, high = Fraction(below), Fraction(above)
    exact = Fraction(root)
    if mode == "rn":
        assert ((low + exact) / 2) ** 2 <= value <= ((exact + high) / 2) ** 2
    elif mode == "rp":
        assert low**2 < value <= exact**2
    else:
        assert exact**2 <= value < high**2


Bound = tuple[str, Callable[[float], float], float, float]
# Opcode, function, greatest relative error, greatest absolute error where that one is not met:
# the manual's tables for the range that is sampled.
BOUNDS: tuple[Bound, ...] = (
    ("rcp.approx.f32", lambda v: 1 / v, 2.0**-23, 0),
    ("sqrt.approx.f32", math.sqrt, 2.0**-23, 0),
    ("rsqrt.approx.f32", lambda v: 1 / math.sqrt(v), 2.0**-22.9, 0),
    ("sin.approx.f32", math.sin, 0, 2.0**-20.5),
    ("cos.approx.f32", math.cos, 0, 2.0**-20.5),
    ("lg2.approx.f32", math.log2, 2.0**-22, 2.0**-22),
    ("ex2.approx.f32", lambda v: 2.0**v, 2.0**-22, 0),
    ("tanh.approx.f32", math.tanh, 2.0**-11, 0),
)


@pytest.mark.parametrize(("opcode", "function", "relative", "absolute"), BOUNDS)
def test_approximations_are_within_their_bounds(
    opcode: str, function: Callable[[float], float], relative: float, absolute: float
) -> None:
    a = np.random.default_rng(0).uniform(0.01, 3.1, 500).astype(np.float32)
    if opcode[:3] in ("sin", "cos", "ex2", "tan"):
        a[::2] *= -1
    found = run_one(f"{opcode} %x, %a;", "f32", a).tolist()
    for value, got in zip(a.tolist(), found, strict=True):
        exact = function(value)
        assert abs(got - exact) <= max(relative * abs(exact), absolute)


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0], np.float32)


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("rcp.approx.ftz", [np.inf, -np.inf, 0.0, -0.0, np.nan, -1.0]),
        ("sqrt.approx", [0.0, -0.0, np.inf, np.nan, np.nan, np.nan]),
        ("rsqrt.approx", [np.inf, -np.inf, 0.0, np.nan, np.nan, np.nan]),
        ("sin.approx", [0.0, -0.0, np.nan, np.nan, np.nan, math.sin(-1)]),
        ("cos.approx", [1.0, 1.0, np.nan, np.nan, np.nan, math.cos(1)]),
        ("lg2.approx", [-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan]),
        ("ex2.approx", [1.0, 1.0, np.inf, 0.0, np.nan, 0.5]),
        ("tanh.approx", [0.0, -0.0, 1.0, -1.0, np.nan, math.tanh(-1)]),
    ],
)
def test_special_values(opcode: str, expected: list[float]) -> None:
    same(run_one(f"{opcode}.f32 %x, %a;", "f32", SPECIAL), np.array(expected, np.float32))


def test_ftz_flushes_subnormal_numbers() -> None:
    a = np.array([1e-40, -1e-40], np.float32)
    same(run_one("rcp.approx.ftz.f32 %x, %a;", "f32", a), np.array([np.inf, -np.inf], np.float32))
    deep = np.array([-130.0, -126.0], np.float32)
    plain = run_one("ex2.approx.f32 %x, %a;", "f32", deep)
    same(plain, np.array([2.0**-130, 2.0**-126], np.float32))
    flushed = run_one("ex2.approx.ftz.f32 %x, %a;", "f32", deep)
    same(flushed, np.array([0.0, 2.0**-126], np.float32))


@pytest.mark.parametrize("root", ["ex2", "tanh"])
def test_halves_alone_and_packed(root: str) -> None:
    function = {"ex2": lambda v: 2.0**v, "tanh": math.tanh}[root]
    a = np.random.default_rng(0).uniform(-8, 8, 400).astype(np.float16)
    found = run_one(f"{root}.approx.f16 %x, %a;", "f16", a)
    for value, got in zip(a.tolist(), found.tolist(), strict=True):
        # The manual: 2^-9.9 relative for ex2, 2^-10.987 absolute for tanh.
        bound = 2.0**-9.9 * function(value) if root == "ex2" else 2.0**-10.987
        assert abs(got - function(value)) <= bound
    packed = run_one(f"{root}.approx.f16x2 %x, %a;", "f16x2", a.reshape(-1, 2))
    same(packed.reshape(-1), found)


def test_bf16() -> None:
    a = encode([0.0, 1.0, -2.0, math.inf], "bf16")
    same(run_one("ex2.approx.ftz.bf16 %x, %a;", "bf16", a), encode([1, 2, 0.25, math.inf], "bf16"))
    same(run_one("tanh.approx.bf16 %x, %a;", "bf16", a)[[0, 3]], encode([0.0, 1.0], "bf16"))


@pytest.mark.parametrize("root", ["rcp", "rsqrt"])
def test_coarse_doubles_have_an_empty_lower_word(root: str) -> None:
    a: Array = np.random.default_rng(0).uniform(0.1, 1000, 200)
    found = run_one(f"{root}.approx.ftz.f64 %x, %a;", "f64", a)
    assert not (found.view(np.uint64) & np.uint64(0xFFFFFFFF)).any()
    exact = 1 / a if root == "rcp" else 1 / np.sqrt(a)
    assert (np.abs(found - exact) <= 2.0**-19 * exact).all()
    tiny = np.array([1e-310, -0.0])
    infinite = run_one(f"{root}.approx.ftz.f64 %x, %a;", "f64", tiny)
    same(infinite, np.array([np.inf, -np.inf]))
    missing = np.array([np.nan, -np.nan])
    found = run_one(f"{root}.approx.ftz.f64 %x, %a;", "u64", missing)
    assert found.tolist() == [0x7FFFFFFF_00000000] * 2


def test_reciprocal_roots_of_doubles() -> None:
    a: Array = np.random.default_rng(0).uniform(0.1, 1000, 200)
    found = run_one("rsqrt.approx.f64 %x, %a;", "f64", a)
    np.testing.assert_allclose(found, 1 / np.sqrt(a), rtol=1e-15)


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("rcp.f32 %x, %a;", "b32 b32"),
        ("rcp.approx.f64 %x, %a;", "b64 b64"),
        ("rcp.rn.ftz.f64 %x, %a;", "b64 b64"),
        ("sqrt.approx.f64 %x, %a;", "b64 b64"),
        ("sqrt.rn.approx.f32 %x, %a;", "b32 b32"),
        ("rsqrt.rn.f32 %x, %a;", "b32 b32"),
        ("rsqrt.f32 %x, %a;", "b32 b32"),
        ("sin.f32 %x, %a;", "b32 b32"),
        ("sin.approx.f64 %x, %a;", "b64 b64"),
        ("ex2.approx.f64 %x, %a;", "b64 b64"),
        ("tanh.approx.ftz.f32 %x, %a;", "b32 b32"),
        ("ex2.approx.ftz.f16 %x, %a;", "b16 b16"),
        ("ex2.approx.bf16 %x, %a;", "b16 b16"),
        ("ex2.approx.f32 %x, %a, %b;", "b32 b32 b32"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
