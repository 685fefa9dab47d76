"""PTX arithmetic on one thread's integers, in Python's own: nothing of the emulator.

Registers hold raw bits: ``h`` 16, ``r`` 32, ``d`` 64, ``f`` the bits of an f32, ``p`` 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


@dataclass(frozen=True)
class Operation:
    """``text`` with {0} for the target and {1}, {2}, ... for the sources, ``kinds`` their kinds.

    ``compute`` takes the sources' raw bits; what it returns is cut to the target's width.
    """

    text: str
    kinds: str
    compute: Callable[..., int]


def signed(bits: int, width: int) -> int:
    """Two's complement."""
    return bits - (1 << width) if bits >> (width - 1) & 1 else bits


def integer_operations() -> list[Operation]:
    """All of them, of every type."""
    return [
        *(o for width, kind in ((16, "h"), (32, "r"), (64, "d")) for o in _integer(width, kind)),
        *(o for width, kind in ((32, "r"), (64, "d")) for o in _bits(width, kind)),
        *_wide(),
        *_funnels(),
        *_carries(),
        *_conversions(),
    ]


def _integer(width: int, kind: str) -> Iterator[Operation]:
    """Arithmetic, comparison, logic and shifts: what 16, 32 and 64 bits have in common."""
    two, three = kind * 3, kind * 4

    def logic(name: str, compute: Callable[[int, int], int]) -> Operation:
        return Operation(f"{name}.b{width} {{0}}, {{1}}, {{2}};", two, compute)

    yield logic("and", lambda a, b: a & b)
    yield logic("or", lambda a, b: a | b)
    yield logic("xor", lambda a, b: a ^ b)
    yield Operation(f"not.b{width} {{0}}, {{1}};", kind * 2, lambda a: ~a)
    yield Operation(f"cnot.b{width} {{0}}, {{1}};", kind * 2, lambda a: int(a == 0))
    yield Operation(
        f"selp.b{width} {{0}}, {{1}}, {{2}}, {{3}};", two + "p", lambda a, b, p: a if p else b
    )
    yield Operation(
        f"shl.b{width} {{0}}, {{1}}, {{2}};", kind * 2 + "r", lambda a, n: a << n if n < 64 else 0
    )
    for sign in "su":
        yield from _typed_integer(width, kind, sign)
    yield Operation(f"neg.s{width} {{0}}, {{1}};", kind * 2, lambda a: -a)
    yield Operation(f"abs.s{width} {{0}}, {{1}};", kind * 2, lambda a: abs(signed(a, width)))
    yield Operation(
        f"mad.lo.u{width} {{0}}, {{1}}, {{2}}, {{3}};", three, lambda a, b, c: a * b + c
    )


def _typed_integer(width: int, kind: str, sign: str) -> Iterator[Operation]:
    name = f"{sign}{width}"

    def value(bits: int) -> int:
        return signed(bits, width) if sign == "s" else bits

    def two(text: str, compute: Callable[[int, int], int]) -> Operation:
        return Operation(
            f"{text}.{name} {{0}}, {{1}}, {{2}};",
            kind * 3,
            lambda a, b: compute(value(a), value(b)),
        )

    yield two("add", lambda a, b: a + b)
    yield two("sub", lambda a, b: a - b)
    yield two("mul.lo", lambda a, b: a * b)
    yield two("mul.hi", lambda a, b: a * b >> width)
    yield two("min", min)
    yield two("max", max)
    yield Operation(
        f"mad.hi.{name} {{0}}, {{1}}, {{2}}, {{3}};",
        kind * 4,
        lambda a, b, c: (value(a) * value(b) >> width) + c,
    )
    yield Operation(
        f"sad.{name} {{0}}, {{1}}, {{2}}, {{3}};",
        kind * 4,
        lambda a, b, c: abs(value(a) - value(b)) + c,
    )
    # Amounts of the width and more are defined: only copies of the sign are left.
    yield Operation(
        f"shr.{name} {{0}}, {{1}}, {{2}};", kind * 2 + "r", lambda a, n: value(a) >> min(n, 64)
    )
    # Divisors are made odd and positive: division by zero and overflow are not defined.
    divisor = (
        f"and.b{width} %t{kind}, {{2}}, {(1 << width - 1) - 1}; or.b{width} %t{kind}, %t{kind}, 1;"
    )
    for text, compute in (("div", _quotient), ("rem", lambda a, b: a - b * _quotient(a, b))):
        yield Operation(
            f"{divisor} {text}.{name} {{0}}, {{1}}, %t{kind};",
            kind * 3,
            lambda a, b, compute=compute: compute(value(a), b & (1 << width - 1) - 1 | 1),
        )
    for text, holds in COMPARE.items():
        if sign == "s" or text in ("lt", "le", "gt", "ge"):
            yield Operation(
                f"setp.{text}.{name} {{0}}, {{1}}, {{2}};",
                "p" + kind * 2,
                lambda a, b, holds=holds: int(holds(value(a), value(b))),
            )


def _quotient(a: int, b: int) -> int:
    """Towards zero."""
    return abs(a) // b * (1 if a >= 0 else -1)


def _bits(width: int, kind: str) -> Iterator[Operation]:
    """Counting and fields of bits."""

    def one(text: str, target: str, compute: Callable[[int], int]) -> Operation:
        return Operation(f"{text} {{0}}, {{1}};", target + kind, compute)

    def highest(sign: str, bits: int) -> int:
        inverted = sign == "s" and bits >> (width - 1)
        return (~bits & (1 << width) - 1 if inverted else bits).bit_length() - 1

    def distance(sign: str, bits: int) -> int:
        return width - 1 - highest(sign, bits) if highest(sign, bits) >= 0 else -1

    yield one(f"popc.b{width}", "r", lambda a: bin(a).count("1"))
    yield one(f"clz.b{width}", "r", lambda a: width - a.bit_length())
    yield one(f"brev.b{width}", kind, lambda a: int(f"{a:0{width}b}"[::-1], 2))
    for sign in "su":
        yield one(f"bfind.{sign}{width}", "r", partial(highest, sign))
        yield one(
            f"bfind.shiftamt.{sign}{width}",
            "r",
            partial(distance, sign),
        )
        yield Operation(
            f"bfe.{sign}{width} {{0}}, {{1}}, {{2}}, {{3}};",
            kind * 2 + "rr",
            lambda a, p, n, s=sign: _extract(a, p & 255, n & 255, width, s),
        )
    yield Operation(
        f"bfi.b{width} {{0}}, {{1}}, {{2}}, {{3}}, {{4}};",
        kind * 3 + "rr",
        lambda a, b, p, n: _insert(a, b, p & 255, n & 255),
    )


def _extract(a: int, position: int, length: int, width: int, sign: str) -> int:
    """Bit by bit, as the manual tells it: beyond the field, or a's top, there are copies of the
    field's own top bit."""
    top = min(position + length, width) - 1
    fill = a >> top & 1 if sign == "s" and length else 0
    inside = min(length, max(0, width - position))
    return sum((a >> position + i & 1 if i < inside else fill) << i for i in range(width))


def _insert(field: int, into: int, position: int, length: int) -> int:
    mask = (1 << length) - 1 << position
    return into & ~mask | field << position & mask


def _wide() -> Iterator[Operation]:
    """Products twice as wide as their factors, and dot products of bytes."""
    for sign, (small, large, width) in product("su", (("h", "r", 16), ("r", "d", 32))):

        def value(bits: int, sign: str = sign, width: int = width) -> int:
            return signed(bits, width) if sign == "s" else bits

        yield Operation(
            f"mul.wide.{sign}{width} {{0}}, {{1}}, {{2}};",
            large + small * 2,
            lambda a, b, value=value: value(a) * value(b),
        )
        yield Operation(
            f"mad.wide.{sign}{width} {{0}}, {{1}}, {{2}}, {{3}};",
            large + small * 2 + large,
            lambda a, b, c, value=value: value(a) * value(b) + c,
        )
    for x, y in product("su", repeat=2):
        yield Operation(
            f"dp4a.{x}32.{y}32 {{0}}, {{1}}, {{2}}, {{3}};",
            "rrrr",
            lambda a, b, c, x=x, y=y: c + sum(_byte(a, i, x) * _byte(b, i, y) for i in range(4)),
        )


def _byte(word: int, index: int, sign: str) -> int:
    byte = word >> 8 * index & 255
    return signed(byte, 8) if sign == "s" else byte


def _funnels() -> Iterator[Operation]:
    """Shifts across two registers, choices of bytes, and three-input logic of every table."""
    for mode, limit in (("wrap", lambda n: n & 31), ("clamp", lambda n: min(n, 32))):
        yield Operation(
            f"shf.l.{mode}.b32 {{0}}, {{1}}, {{2}}, {{3}};",
            "rrrr",
            lambda a, b, n, limit=limit: (b << 32 | a) << limit(n) >> 32,
        )
        yield Operation(
            f"shf.r.{mode}.b32 {{0}}, {{1}}, {{2}}, {{3}};",
            "rrrr",
            lambda a, b, n, limit=limit: (b << 32 | a) >> limit(n),
        )
    yield Operation("prmt.b32 {0}, {1}, {2}, {3};", "rrrr", _permute)
    for table in (0x01, 0x1E, 0x96, 0xE8, 0xCA, 0x2B, 0x7F):
        yield Operation(
            f"lop3.b32 {{0}}, {{1}}, {{2}}, {{3}}, {table};",
            "rrrr",
            lambda a, b, c, table=table: sum(
                (table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i
                for i in range(32)
            ),
        )


def _permute(a: int, b: int, selector: int) -> int:
    result = 0
    for i in range(4):
        choice = selector >> 4 * i & 15
        byte = (b << 32 | a) >> 8 * (choice & 7) & 255
        if choice & 8:  # the sign, eight times
            byte = 255 * (byte >> 7)
        result |= byte << 8 * i
    return result


def _carries() -> Iterator[Operation]:
    """Sums and differences of 64 bits in two halves, of which the upper is kept."""
    halves = "mov.b64 {{%t0, %t1}}, {1}; mov.b64 {{%t2, %t3}}, {2};"
    for first, then, sign in (("add.cc", "addc", 1), ("sub.cc", "subc", -1)):
        yield Operation(
            f"{halves} {first}.u32 %t0, %t0, %t2; {then}.u32 {{0}}, %t1, %t3;",
            "rdd",
            lambda a, b, sign=sign: a + sign * b >> 32,
        )


def _conversions() -> Iterator[Operation]:
    """``cvt`` between integers, with sign and saturation; packing and unpacking."""
    kinds = {16: "h", 32: "r", 64: "d"}
    for (to, from_), (x, y) in product(product(kinds, repeat=2), product("su", repeat=2)):
        limits = (-(1 << to - 1), (1 << to - 1) - 1) if x == "s" else (0, (1 << to) - 1)

        def value(bits: int, sign: str = y, width: int = from_) -> int:
            return signed(bits, width) if sign == "s" else bits

        pair = f"{x}{to}.{y}{from_} {{0}}, {{1}};"
        if to != from_:
            yield Operation(f"cvt.{pair}", kinds[to] + kinds[from_], value)
        if to < from_ or (to == from_ and x != y):
            yield Operation(
                f"cvt.sat.{pair}",
                kinds[to] + kinds[from_],
                lambda a, value=value, limits=limits: min(max(value(a), limits[0]), limits[1]),
            )
    for sign, kind in product("su", "hrd"):
        yield Operation(
            f"cvt.{sign}{ {'h': 16, 'r': 32, 'd': 64}[kind] }.{sign}8 {{0}}, {{1}};",
            kind + "r",
            lambda a, sign=sign: signed(a & 255, 8) if sign == "s" else a & 255,
        )
    yield Operation("mov.b64 {0}, {{{1}, {2}}};", "drr", lambda a, b: b << 32 | a)
    yield Operation("mov.b32 {0}, {{{1}, {2}}};", "rhh", lambda a, b: b << 16 | a)
    yield Operation("mov.b64 {{{0}, %t0}}, {1};", "rd", lambda a: a)
    yield Operation("mov.b32 {{%th, {0}}}, {1};", "hr", lambda a: a >> 16)
