"""Conversions between every two types against exact numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.numbers_oracle import FORMATS, decode, encode, floats, integers, rounded, same
from tests.emulator.snippets import refuses, run_one
from tuner.emulator.isa.values import DTYPES, Array

INTEGERS = tuple(f"{kind}{bits}" for kind in "us" for bits in (8, 16, 32, 64))
FLOATS, MODES = ("f16", "bf16", "f32", "f64"), ("rn", "rz", "rm", "rp")
WIDENING = (("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("f32", "f64"))
NARROWING = tuple((wide, narrow) for narrow, wide in WIDENING)

WHOLE: dict[str, Callable[[float], int]] = {
    "rni": round,
    "rzi": math.trunc,
    "rmi": math.floor,
    "rpi": math.ceil,
}


def limits(kind: str) -> tuple[int, int]:
    found = np.iinfo(DTYPES[kind])
    return int(found.min), int(found.max)


def to_integer(value: float, result: str, kind: str, mode: str) -> int:
    low, high = limits(result)
    if math.isnan(value):
        if kind != "f64" and not result.endswith("64"):
            return 0
        return low if low else 1 << (int(result[1:]) - 1)
    if math.isinf(value):
        return high if value > 0 else low
    return min(max(WHOLE[mode](value), low), high)


def source(kind: str) -> tuple[Array, Array]:
    """Samples of an integer type, and the register that holds them, with dirt above 8 bits."""
    [a] = integers(kind, 1)
    if not kind.endswith("8"):
        return a, a
    dirt = np.random.default_rng(1).integers(0, 256, len(a), np.uint16) << 8
    return a, a.view(np.uint8) | dirt


@pytest.mark.parametrize("result", INTEGERS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_are_cut_or_extended_or_clamped(kind: str, result: str) -> None:
    a, register = source(kind)
    # An 8-bit result is extended to its register of 16 bits.
    holder = result[0] + result[1:].replace("8", "16") if result.endswith("8") else result
    found = run_one(f"cvt.{result}.{kind} %x, %a;", holder, register)
    bits, (low, high) = int(result[1:]), limits(result)
    cut = [(v - low) % (1 << bits) + low for v in a.tolist()]
    same(found, np.array(cut, DTYPES[holder]))
    found = run_one(f"cvt.sat.{result}.{kind} %x, %a;", holder, register)
    same(found, np.array([min(max(v, low), high) for v in a.tolist()], DTYPES[holder]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("result", FLOATS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_become_floats(kind: str, result: str, mode: str) -> None:
    a, register = source(kind)
    found = run_one(f"cvt.{mode}.{result}.{kind} %x, %a;", result, register)
    values = (rounded(Fraction(v) if v else 0.0, result, mode) for v in a.tolist())
    same(found, encode(values, result))


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
@pytest.mark.parametrize("result", INTEGERS)
@pytest.mark.parametrize("kind", FLOATS)
def test_floats_become_integers(kind: str, result: str, mode: str) -> None:
    [a] = floats(kind, 1, 400)
    # Around the type's limits, and halves.
    near = [v + d for v in (*limits(result), 0) for d in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)]
    a = np.concatenate(
        [a, encode((rounded(Fraction(v), kind, "rn") if v else 0.0 for v in near), kind)]
    )
    holder = result.replace("8", "16")
    found = run_one(f"cvt.{mode}.{result}.{kind} %x, %a;", holder, a)
    expected = [to_integer(v, result, kind, mode) for v in decode(a, kind).tolist()]
    same(found, np.array(expected, DTYPES[holder]))
    same(run_one(f"cvt.{mode}.sat.{result}.{kind} %x, %a;", holder, a), found)


@pytest.mark.parametrize(("kind", "result"), WIDENING)
def test_wider_floats_are_exact(kind: str, result: str) -> None:
    [a] = floats(kind, 1)
    same(run_one(f"cvt.{result}.{kind} %x, %a;", result, a), encode(decode(a, kind), result))
    refuses(f"cvt.rn.{result}.{kind} %x, %a;", f"b{result.lstrip('bf')}", f"b{kind.lstrip('bf')}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "result"), [*NARROWING, ("bf16", "f16"), ("f16", "bf16")])
def test_narrower_floats_round_once(kind: str, result: str, mode: str) -> None:
    if (kind, result) == ("f32", "bf16") and mode in ("rm", "rp"):
        refuses(f"cvt.{mode}.bf16.f32 %x, %a;", "b16", "b32")
        return
    a = near_ties(kind, result)
    found = run_one(f"cvt.{mode}.{result}.{kind} %x, %a;", result, a)
    same(found, encode((to_float(v, result, mode) for v in decode(a, kind).tolist()), result))


def to_float(value: float, result: str, mode: str) -> float:
    exact = Fraction(value) if math.isfinite(value) and value else value
    return rounded(exact, result, mode)


def near_ties(kind: str, result: str) -> Array:
    """Samples of ``kind``, and its values in the middle of two of ``result``, and beside them."""
    [plain] = floats(kind, 1, 400)
    if kind in ("f16", "bf16"):
        return plain
    random, form = np.random.default_rng(2), FORMATS[result]
    whole = random.integers(1, 1 << form.digits, 400) + 0.5
    value = np.ldexp(whole, random.integers(form.least - form.digits, form.most, 400))
    with np.errstate(over="ignore"):
        middle = value.astype(DTYPES[kind])
    beside = [np.nextafter(middle, middle.dtype.type(to)) for to in (0, np.inf)]
    return np.concatenate([plain, middle, *beside, -middle])


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_floats_become_whole_floats(kind: str) -> None:
    [a] = floats(kind, 1)
    with np.errstate(all="ignore"):
        for mode, function in (
            ("rni", np.rint),
            ("rzi", np.trunc),
            ("rmi", np.floor),
            ("rpi", np.ceil),
        ):
            same(run_one(f"cvt.{mode}.{kind}.{kind} %x, %a;", kind, a), function(a))


@pytest.mark.parametrize("result", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz"])
def test_two_floats_are_packed_the_first_above(result: str, mode: str) -> None:
    a, b = floats("f32", 2, 300)
    singles = [run_one(f"cvt.{mode}.{result}.f32 %x, %a;", result, v) for v in (b, a)]
    packed = run_one(f"cvt.{mode}.{result}x2.f32 %x, %a, %b;", f"{result}x2", a, b)
    same(packed.reshape(-1), np.stack(singles, axis=1).reshape(-1))


@pytest.mark.parametrize("result", ["f16", "bf16"])
def test_relu_keeps_nan(result: str) -> None:
    [a] = floats("f32", 1)
    plain = decode(run_one(f"cvt.rn.{result}.f32 %x, %a;", result, a), result)
    expected = encode((v if v > 0 or v != v else 0.0 for v in plain.tolist()), result)
    same(run_one(f"cvt.rn.relu.{result}.f32 %x, %a;", result, a), expected)
    packed = run_one(f"cvt.rn.relu.{result}x2.f32 %x, %a, %a;", f"{result}x2", a)
    same(np.ascontiguousarray(packed[:, 0]), expected)


def test_sat_clamps_floats_to_one() -> None:
    [a] = floats("f32", 1)
    expected = np.array([min(v, 1.0) if v > 0 else 0.0 for v in a.tolist()], np.float32)
    same(run_one("cvt.sat.f32.f32 %x, %a;", "f32", a), expected)
    halves = run_one("cvt.rn.sat.f16.f32 %x, %a;", "f16", a)
    same(halves, run_one("cvt.rn.f16.f32 %x, %a;", "f16", expected))


def test_ftz_flushes_sources_and_results() -> None:
    tiny = np.array([1e-40, -1e-40, 2e-38], np.float32)
    assert run_one("cvt.rpi.s32.f32 %x, %a;", "s32", tiny).tolist() == [1, 0, 1]
    assert run_one("cvt.rpi.ftz.s32.f32 %x, %a;", "s32", tiny).tolist() == [0, 0, 1]
    same(run_one("cvt.ftz.f64.f32 %x, %a;", "f64", tiny), np.array([0.0, -0.0, float(tiny[2])]))
    wide = np.array([1e-40, -1e-40])
    same(run_one("cvt.rn.ftz.f32.f64 %x, %a;", "f32", wide), np.array([0.0, -0.0], np.float32))


def test_tf32_rounds_ties_away_from_zero() -> None:
    [a] = floats("f32", 1)
    found = run_one("cvt.rna.tf32.f32 %x, %a;", "f32", a)
    for value, got in zip(decode(a, "f32").tolist(), found.tolist(), strict=True):
        if not math.isfinite(value):
            assert got == value or (math.isnan(got) and math.isnan(value))
            continue
        exponent = max(math.frexp(value)[1] - 1, -126)
        scaled = Fraction(value) / Fraction(2) ** (exponent - 10)
        whole = math.floor(abs(scaled) + Fraction(1, 2))
        size = whole * Fraction(2) ** (exponent - 10)
        assert got == math.copysign(float(size) if size < 2**128 else math.inf, value)


@pytest.mark.parametrize("result", ["u8", "s8", "u16", "s16"])
def test_integers_are_clamped_and_packed(result: str) -> None:
    a, b = integers("s32", 2)
    c = integers("u32", 3)[2]
    bits, (low, high) = int(result[1:]), limits(result)

    def clamped(values: Array) -> Array:
        return np.clip(values.astype(np.int64), low, high) & ((1 << bits) - 1)

    pair = clamped(a) << bits | clamped(b)
    if bits == 16:
        found = run_one(f"cvt.pack.sat.{result}.s32 %x, %a, %b;", "b32", a, b)
        same(found, pair.astype(np.uint32))
        return
    found = run_one(f"cvt.pack.sat.{result}.s32.b32 %x, %a, %b, %c;", "b32", a, b, c)
    same(found, (pair | c.astype(np.int64) << 16).astype(np.uint32))


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("cvt.s32.f32 %x, %a;", "b32 b32"),
        ("cvt.rn.s32.f32 %x, %a;", "b32 b32"),
        ("cvt.rni.rzi.s32.f32 %x, %a;", "b32 b32"),
        ("cvt.f32.s32 %x, %a;", "b32 b32"),
        ("cvt.rni.f32.s32 %x, %a;", "b32 b32"),
        ("cvt.rn.s32.s64 %x, %a;", "b32 b64"),
        ("cvt.f16.f32 %x, %a;", "b16 b32"),
        ("cvt.rn.f32.f32 %x, %a;", "b32 b32"),
        ("cvt.rn.satfinite.f16.f32 %x, %a;", "b16 b32"),
        ("cvt.rn.relu.f32.f64 %x, %a;", "b32 b64"),
        ("cvt.rm.relu.f16.f32 %x, %a;", "b16 b32"),
        ("cvt.rn.sat.bf16.f32 %x, %a;", "b16 b32"),
        ("cvt.ftz.f64.f64 %x, %a;", "b64 b64"),
        ("cvt.f16x2.f32 %x, %a, %b;", "b32 b32 b32"),
        ("cvt.rm.f16x2.f32 %x, %a, %b;", "b32 b32 b32"),
        ("cvt.rn.f16x2.f32 %x, %a;", "b32 b32"),
        ("cvt.rn.tf32.f32 %x, %a;", "b32 b32"),
        ("cvt.u32.b32 %x, %a;", "b32 b32"),
        ("cvt.u32 %x, %a;", "b32 b32"),
        ("cvt.rn.satfinite.e4m3x2.f32 %x, %a, %b;", "b16 b32 b32"),
        ("cvt.pack.u16.s32 %x, %a, %b;", "b32 b32 b32"),
        ("cvt.u64.u32 %x, %a;", "b64 b16"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
