"""Integer instructions against Python's whole numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.numbers_oracle import integers, same
from tests.emulator.snippets import refuses, run, run_one
from tuner.emulator.isa.values import DTYPES, Array

TYPES = ("u16", "u32", "u64", "s16", "s32", "s64")


def width(kind: str) -> int:
    return int(kind[1:])


def wrapped(values: list[int], kind: str) -> Array:
    """Python integers cut to the type."""
    bits = width(kind)
    raw = [value % (1 << bits) for value in values]
    return np.array(raw, np.uint64).astype(f"u{bits // 8}").view(DTYPES[kind])


def clamped(value: int, kind: str) -> int:
    limits = np.iinfo(DTYPES[kind])
    return min(max(value, int(limits.min)), int(limits.max))


def check(
    opcode: str, kind: str, compute: Callable[..., int], arity: int = 2, result: str | None = None
) -> None:
    """Compares an instruction on samples of ``kind`` with a function of Python integers."""
    inputs = integers(kind, arity)
    _check_on(inputs, opcode, compute, result or kind)


def _check_on(inputs: list[Array], opcode: str, compute: Callable[..., int], result: str) -> None:
    operands = ", ".join(f"%{name}" for name in "abcd"[: len(inputs)])
    found = run_one(f"{opcode} %x, {operands};", result, *inputs)
    expected = [compute(*row) for row in zip(*(v.tolist() for v in inputs), strict=True)]
    same(found, wrapped(expected, result))


def quotient(a: int, b: int) -> int:
    if b == 0:
        return -1
    return abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


@pytest.mark.parametrize("kind", TYPES)
def test_sums_differences_and_extremes(kind: str) -> None:
    check(f"add.{kind}", kind, lambda a, b: a + b)
    check(f"sub.{kind}", kind, lambda a, b: a - b)
    check(f"min.{kind}", kind, min)
    check(f"max.{kind}", kind, max)
    check(f"sad.{kind}", kind, lambda a, b, c: c + abs(a - b), arity=3)


@pytest.mark.parametrize("kind", TYPES)
def test_quotients_are_cut_off_towards_zero(kind: str) -> None:
    check(f"div.{kind}", kind, quotient)
    check(f"rem.{kind}", kind, lambda a, b: a - quotient(a, b) * b if b else a)


@pytest.mark.parametrize("kind", ["s16", "s32", "s64"])
def test_absolute_values_and_negatives(kind: str) -> None:
    check(f"abs.{kind}", kind, abs, arity=1)
    check(f"neg.{kind}", kind, lambda a: -a, arity=1)


@pytest.mark.parametrize("kind", TYPES)
def test_products_and_their_halves(kind: str) -> None:
    bits = width(kind)
    check(f"mul.lo.{kind}", kind, lambda a, b: a * b)
    check(f"mul.hi.{kind}", kind, lambda a, b: a * b >> bits)
    check(f"mad.lo.{kind}", kind, lambda a, b, c: a * b + c, arity=3)
    check(f"mad.hi.{kind}", kind, lambda a, b, c: (a * b >> bits) + c, arity=3)


@pytest.mark.parametrize("kind", ["u16", "u32", "s16", "s32"])
def test_wide_products(kind: str) -> None:
    double = f"{kind[0]}{2 * width(kind)}"
    check(f"mul.wide.{kind}", kind, lambda a, b: a * b, result=double)
    a, b = integers(kind, 2)
    [c] = (column[: len(a)] for column in integers(double, 1))
    _check_on([a, b, np.resize(c, len(a))], f"mad.wide.{kind}", lambda x, y, z: x * y + z, double)


def test_saturation_is_for_s32() -> None:
    check("add.sat.s32", "s32", lambda a, b: clamped(a + b, "s32"))
    check("sub.sat.s32", "s32", lambda a, b: clamped(a - b, "s32"))
    check("mad.hi.sat.s32", "s32", lambda a, b, c: clamped((a * b >> 32) + c, "s32"), arity=3)
    check(
        "mad24.hi.sat.s32",
        "s32",
        lambda a, b, c: clamped((low24(a, "s32") * low24(b, "s32") >> 16) + c, "s32"),
        arity=3,
    )


def low24(value: int, kind: str) -> int:
    bits = value & 0xFFFFFF
    return bits - (1 << 24) if kind == "s32" and bits >> 23 else bits


@pytest.mark.parametrize("kind", ["u32", "s32"])
def test_products_of_24_bits(kind: str) -> None:
    def product(a: int, b: int) -> int:
        return low24(a, kind) * low24(b, kind)

    check(f"mul24.lo.{kind}", kind, product)
    check(f"mul24.hi.{kind}", kind, lambda a, b: product(a, b) >> 16)
    check(f"mad24.lo.{kind}", kind, lambda a, b, c: product(a, b) + c, arity=3)
    check(f"mad24.hi.{kind}", kind, lambda a, b, c: (product(a, b) >> 16) + c, arity=3)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("root", ["add", "sub"])
def test_carries_link_words(root: str, bits: int) -> None:
    a, b, c, d = integers(f"u{bits}", 4)
    text = f"""
        {root}.cc.u{bits} %x, %a, %c;
        {root}c.cc.u{bits} %y, %b, %d;
        {root}c.u{bits} %z, 0, 0;
    """
    low, high, over = run(text, f"u{bits} u{bits} s{bits}", a, b, c, d)
    sign = 1 if root == "add" else -1
    for i in range(len(a)):
        first, second = (int(h[i]) << bits | int(v[i]) for v, h in ((a, b), (c, d)))
        total = first + sign * second
        assert int(high[i]) << bits | int(low[i]) == total % (1 << 2 * bits)
        assert int(over[i]) == total >> 2 * bits


def test_carries_of_products() -> None:
    a, b, c, d = integers("u32", 4)
    text = """
        mad.lo.cc.u32 %x, %a, %b, %c;
        madc.hi.cc.u32 %y, %a, %b, %d;
        addc.u32 %z, 0, 0;
    """
    low, high, over = run(text, "u32 u32 u32", a, b, c, d)
    for i in range(len(a)):
        total = int(a[i]) * int(b[i]) + (int(d[i]) << 32 | int(c[i]))
        assert int(over[i]) << 64 | int(high[i]) << 32 | int(low[i]) == total


def test_only_executing_lanes_change_their_carry() -> None:
    ones = np.full(64, 0xFFFFFFFF, np.uint32)
    odd = np.arange(64) % 2 == 1
    text = "add.cc.u32 %x, %a, 1; addc.u32 %y, 0, 0;"
    _, carry = run(text, "u32 u32", ones, mask=odd)
    np.testing.assert_array_equal(carry, odd.astype(np.uint32))


@pytest.mark.parametrize("first", ["u32", "s32"])
@pytest.mark.parametrize("second", ["u32", "s32"])
def test_dot_products(first: str, second: str) -> None:
    result = "s32" if "s32" in (first, second) else "u32"
    a, b, c = (column.view(DTYPES[t]) for column, t in zip(
        integers("u32", 3), (first, second, result), strict=True
    ))  # fmt: skip
    left, halves = (a.view(f"{first[0]}{n}".replace("s", "i")).tolist() for n in (1, 2))
    right = b.view(f"{second[0]}1".replace("s", "i")).tolist()
    for name, parts, shift in (("dp4a", left, 0), ("dp2a.lo", halves, 0), ("dp2a.hi", halves, 2)):
        found = run_one(f"{name}.{first}.{second} %x, %a, %b, %c;", result, a, b, c)
        size = len(parts) // len(a)
        expected = [
            sum(parts[size * i + k] * right[4 * i + k + shift] for k in range(size)) + int(c[i])
            for i in range(len(a))
        ]
        same(found, wrapped(expected, result))


def test_a_masked_lane_keeps_its_register() -> None:
    a = np.arange(40, dtype=np.uint32)
    even = a % 2 == 0
    found = run_one("mov.u32 %x, 7; add.u32 %x, %a, %a;", "u32", a, mask=even)
    np.testing.assert_array_equal(found, np.where(even, 2 * a, 0))


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("add.sat.u32 %x, %a, %b;", "b32 b32 b32"),
        ("add.ftz.s32 %x, %a, %b;", "b32 b32 b32"),
        ("add.u8 %x, %a, %b;", "b32 b32 b32"),
        ("add.s32 %x, %a;", "b32 b32 b32"),
        ("mul.s32 %x, %a, %b;", "b32 b32 b32"),
        ("mul.lo.hi.s32 %x, %a, %b;", "b32 b32 b32"),
        ("mul.wide.s64 %x, %a, %b;", "b64 b64 b64"),
        ("mad.lo.sat.s32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("mul24.wide.s32 %x, %a, %b;", "b64 b32 b32"),
        ("mad24.lo.sat.s32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("min.relu.s32 %x, %a, %b;", "b32 b32 b32"),
        ("abs.u32 %x, %a;", "b32 b32"),
        ("dp2a.u32.u32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("dp4a.u32.u64 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("addc.u16 %x, %a, %b;", "b16 b16 b16"),
        ("add.u64 %x, %a, %b;", "b64 b32 b64"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
