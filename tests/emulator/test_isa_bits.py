"""Instructions on bits against Python's whole numbers, bit by bit as the manual defines them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.numbers_oracle import integers, same
from tests.emulator.snippets import refuses, run_one
from tuner.emulator.isa.values import DTYPES, Array

NONE = 0xFFFFFFFF


def amounts(count: int, seed: int) -> Array:
    """Positions and lengths: small ones, and some that only their lowest byte makes small."""
    random = np.random.default_rng(seed)
    plain = random.integers(0, 70, count, np.uint32)
    return np.where(random.random(count) < 0.1, random.integers(0, 2**32, count, np.uint32), plain)


def check(statement: str, result: str, compute: Callable[..., int], *inputs: Array) -> None:
    found = run_one(statement, result, *inputs)
    bits = 8 * DTYPES[result].itemsize
    rows = zip(*(value.tolist() for value in inputs), strict=True)
    expected = np.array([compute(*row) % (1 << bits) for row in rows], np.uint64)
    same(found, expected.astype(f"u{bits // 8}").view(DTYPES[result]))


@pytest.mark.parametrize("bits", [32, 64])
def test_counts_and_reversal(bits: int) -> None:
    [a] = integers(f"u{bits}", 1)
    check(f"popc.b{bits} %x, %a;", "u32", lambda v: bin(v).count("1"), a)
    check(f"clz.b{bits} %x, %a;", "u32", lambda v: bits - v.bit_length(), a)
    check(f"brev.b{bits} %x, %a;", f"u{bits}", lambda v: int(f"{v:0{bits}b}"[::-1], 2), a)


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_the_highest_bit_that_is_no_sign(kind: str) -> None:
    [a] = integers(kind, 1)
    bits = int(kind[1:])

    def highest(value: int) -> int:
        return (~value if value < 0 else value).bit_length() - 1

    check(f"bfind.{kind} %x, %a;", "u32", highest, a)
    check(
        f"bfind.shiftamt.{kind} %x, %a;",
        "u32",
        lambda v: NONE if highest(v) < 0 else bits - 1 - highest(v),
        a,
    )


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_fields_are_cut_out(kind: str) -> None:
    [a] = integers(kind, 1)
    start, length = amounts(len(a), 1), amounts(len(a), 2)
    width = int(kind[1:])

    def extract(value: int, start: int, length: int) -> int:
        # The manual's definition, bit by bit.
        first, count = start & 0xFF, length & 0xFF
        signed = kind[0] == "s" and count > 0
        sign = value >> min(first + count - 1, width - 1) & 1 if signed else 0
        taken = [
            value >> (first + i) & 1 if i < count and first + i < width else sign
            for i in range(width)
        ]
        return sum(bit << i for i, bit in enumerate(taken))

    check(f"bfe.{kind} %x, %a, %b, %c;", kind, extract, a, start, length)


@pytest.mark.parametrize("width", [32, 64])
def test_fields_are_put_in(width: int) -> None:
    a, b = integers(f"u{width}", 2)
    start, length = amounts(len(a), 3), amounts(len(a), 4)

    def insert(a: int, b: int, start: int, length: int) -> int:
        first, count = start & 0xFF, length & 0xFF
        for i in range(count):
            if first + i < width:
                b = b & ~(1 << (first + i)) | (a >> i & 1) << (first + i)
        return b

    check(f"bfi.b{width} %x, %a, %b, %c, %d;", f"u{width}", insert, a, b, start, length)


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_masks_and_extensions(mode: str) -> None:
    [a] = integers("u32", 1)
    start, count = amounts(len(a), 5), amounts(len(a), 6)

    def limited(value: int) -> int:
        return value % 32 if mode == "wrap" else min(value, 32)

    def mask(start: int, count: int) -> int:
        return ((1 << limited(count)) - 1) << limited(start)

    def extended(value: int, count: int) -> int:
        bits = limited(count)
        field = value & ((1 << bits) - 1)
        return field - (1 << bits) if bits and field >> (bits - 1) else field

    check(f"bmsk.{mode}.b32 %x, %a, %b;", "b32", mask, start, count)
    check(f"szext.{mode}.s32 %x, %a, %b;", "s32", extended, a, count)
    check(
        f"szext.{mode}.u32 %x, %a, %b;",
        "u32",
        lambda v, n: v & ((1 << limited(n)) - 1),
        a,
        count,
    )


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_logic_on_words(bits: int) -> None:
    a, b = integers(f"u{bits}", 2)
    kind = f"b{bits}"
    check(f"and.{kind} %x, %a, %b;", kind, lambda x, y: x & y, a, b)
    check(f"or.{kind} %x, %a, %b;", kind, lambda x, y: x | y, a, b)
    check(f"xor.{kind} %x, %a, %b;", kind, lambda x, y: x ^ y, a, b)
    check(f"not.{kind} %x, %a;", kind, lambda x: ~x, a)
    check(f"cnot.{kind} %x, %a;", kind, lambda x: int(x == 0), a)


def test_logic_on_predicates() -> None:
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    same(run_one("and.pred %x, %a, %b;", "pred", a, b), a & b)
    same(run_one("or.pred %x, %a, %b;", "pred", a, b), a | b)
    same(run_one("xor.pred %x, %a, %b;", "pred", a, b), a ^ b)
    same(run_one("not.pred %x, %a;", "pred", a), ~a)


@pytest.mark.parametrize("table", range(256))
def test_every_function_of_three_bits(table: int) -> None:
    a, b, c = (np.array([word], np.uint32) for word in (0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA))
    [found] = run_one(f"lop3.b32 %x, %a, %b, %c, {table};", "u32", a, b, c)
    assert found == table * 0x01010101


@pytest.mark.parametrize("kind", ["u16", "u32", "u64", "s16", "s32", "s64"])
def test_shifts_lose_all_bits_from_the_width_on(kind: str) -> None:
    [a] = integers(kind, 1)
    count, width = amounts(len(a), 7), int(kind[1:])
    check(f"shr.{kind} %x, %a, %b;", kind, lambda v, n: v >> min(n, width), a, count)
    if kind[0] == "u":
        check(f"shl.b{width} %x, %a, %b;", kind, lambda v, n: v << min(n, width), a, count)
        check(f"shr.b{width} %x, %a, %b;", kind, lambda v, n: v >> min(n, width), a, count)
    for n in (0, 1, width - 1, width, 200):
        check(f"shr.{kind} %x, %a, {n};", kind, lambda v, n=n: v >> n, a)
        check(f"shl.b{width} %x, %a, {n};", kind, lambda v, n=n: v << n, a)


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_funnel_shifts(mode: str) -> None:
    a, b = integers("u32", 2)
    count = amounts(len(a), 8)

    def limited(n: int) -> int:
        return n % 32 if mode == "wrap" else min(n, 32)

    def left(low: int, high: int, n: int) -> int:
        return (high << 32 | low) << limited(n) >> 32

    def right(low: int, high: int, n: int) -> int:
        return (high << 32 | low) >> limited(n)

    check(f"shf.l.{mode}.b32 %x, %a, %b, %c;", "u32", left, a, b, count)
    check(f"shf.r.{mode}.b32 %x, %a, %b, %c;", "u32", right, a, b, count)


def bytes_of(a: int, b: int) -> list[int]:
    return [(b << 32 | a) >> 8 * i & 0xFF for i in range(8)]


def test_permutation_by_selectors() -> None:
    a, b, c = integers("u32", 3)

    def permuted(a: int, b: int, c: int) -> int:
        result = 0
        for i in range(4):
            selector = c >> 4 * i & 15
            byte = bytes_of(a, b)[selector & 7]
            result |= ((0xFF if byte >> 7 else 0) if selector & 8 else byte) << 8 * i
        return result

    check("prmt.b32 %x, %a, %b, %c;", "u32", permuted, a, b, c)
    check("prmt.b32 %x, %a, %b, 0xfb40;", "u32", lambda v, w: permuted(v, w, 0xFB40), a, b)


# Mode -> selector -> the bytes of b:a from the highest to the lowest, as in the manual's table.
MODES = {
    "f4e": ["3210", "4321", "5432", "6543"],
    "b4e": ["5670", "6701", "7012", "0123"],
    "rc8": ["0000", "1111", "2222", "3333"],
    "ecl": ["3210", "3211", "3222", "3333"],
    "ecr": ["0000", "1110", "2210", "3210"],
    "rc16": ["1010", "3232", "1010", "3232"],
}


@pytest.mark.parametrize("mode", MODES)
def test_permutation_by_mode(mode: str) -> None:
    a, b, c = integers("u32", 3)

    def permuted(a: int, b: int, c: int) -> int:
        taken = [bytes_of(a, b)[int(digit)] for digit in MODES[mode][c & 3]]
        return int.from_bytes(bytes(taken), "big")

    check(f"prmt.b32.{mode} %x, %a, %b, %c;", "u32", permuted, a, b, c)


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("popc.u32 %x, %a;", "b32 b32"),
        ("bfind.b32 %x, %a;", "b32 b32"),
        ("bfe.b32 %x, %a, 1, 2;", "b32 b32"),
        ("bmsk.b32 %x, %a, %b;", "b32 b32 b32"),
        ("szext.clamp.wrap.s32 %x, %a, %b;", "b32 b32 b32"),
        ("and.u32 %x, %a, %b;", "b32 b32 b32"),
        ("shl.u32 %x, %a, 1;", "b32 b32"),
        ("shl.wrap.b32 %x, %a, 1;", "b32 b32"),
        ("lop3.b32 %x, %a, %b, %c, 256;", "b32 b32 b32 b32"),
        ("lop3.b32 %x, %a, %b, %c, %d;", "b32 b32 b32 b32 b32"),
        ("shf.l.b32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("prmt.b32.f4e.rc8 %x, %a, %b, %c;", "b32 b32 b32 b32"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
