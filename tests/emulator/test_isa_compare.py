"""Comparisons and selections against Python's own."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.numbers_oracle import decode, floats, integers, same
from tests.emulator.snippets import refuses, run, run_one
from tuner.emulator.isa.values import DTYPES, Array

ORDERED: dict[str, Callable[[float, float], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
JOINS: dict[str, Callable[[Array, Array], Array]] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


def compare(name: str, a: float, b: float) -> bool:
    """The manual's comparisons of floating-point numbers."""
    unordered = math.isnan(a) or math.isnan(b)
    if name in ("num", "nan"):
        return unordered == (name == "nan")
    if name in ORDERED:
        return not unordered and ORDERED[name](a, b)
    return unordered or ORDERED[name[:-1]](a, b)


def flags(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(count) < 0.5


@pytest.mark.parametrize("kind", [f"{k}{bits}" for k in "us" for bits in (16, 32, 64)])
def test_integers_compare_by_their_type(kind: str) -> None:
    a, b = integers(kind, 2)
    names = {**{n: n for n in ORDERED}, **(UNSIGNED if kind[0] == "u" else {})}
    for name, plain in names.items():
        found, opposite = run(f"setp.{name}.{kind} %x|%y, %a, %b;", "pred pred", a, b)
        expected = [ORDERED[plain](x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        same(found, np.array(expected))
        same(opposite, ~found)


@pytest.mark.parametrize("name", [*ORDERED, *(f"{n}u" for n in ORDERED), "num", "nan"])
@pytest.mark.parametrize("kind", ["f16", "bf16", "f32", "f64"])
def test_floats_compare_ordered_and_unordered(kind: str, name: str) -> None:
    a, b = floats(kind, 2, 200)
    values = zip(decode(a, kind).tolist(), decode(b, kind).tolist(), strict=True)
    expected = np.array([compare(name, x, y) for x, y in values])
    same(run_one(f"setp.{name}.{kind} %x, %a, %b;", "pred", a, b), expected)
    result = run_one(f"set.{name}.u32.{kind} %x, %a, %b;", "u32", a, b)
    same(result, np.where(expected, 0xFFFFFFFF, 0).astype(np.uint32))


@pytest.mark.parametrize("join", JOINS)
def test_a_third_predicate_joins_both_results(join: str) -> None:
    a, b = integers("s32", 2)
    c = flags(len(a))
    text = f"setp.lt.{join}.s32 %x|%y, %a, %b, %c; setp.lt.{join}.s32 %z|%w, %a, %b, !%c;"
    first, second, third, fourth = run(text, "pred pred pred pred", a, b, c)
    less = a < b
    same(first, JOINS[join](less, c))
    same(second, JOINS[join](~less, c))
    same(third, JOINS[join](less, ~c))
    same(fourth, JOINS[join](~less, ~c))


def test_a_result_may_be_its_own_third_predicate() -> None:
    a, b = integers("s32", 2)
    c = flags(len(a))
    text = "mov.pred %x, %c; setp.lt.and.s32 %x|%y, %a, %b, %x;"
    first, second = run(text, "pred pred", a, b, c)
    same(first, (a < b) & c)
    same(second, (a >= b) & c)


def test_pairs_of_halves_give_two_predicates() -> None:
    a, b = floats("f16", 2, 200)
    size = len(a) // 2 * 2
    left, right = a[:size].reshape(-1, 2), b[:size].reshape(-1, 2)
    c = flags(len(left))
    lower, upper = run("setp.gt.f16x2 %x|%y, %a, %b;", "pred pred", left, right)
    same(lower, left[:, 0] > right[:, 0])
    same(upper, left[:, 1] > right[:, 1])
    _, joined = run("setp.gt.or.f16x2 %x|%y, %a, %b, %c;", "pred pred", left, right, c)
    same(joined, (left[:, 1] > right[:, 1]) | c)
    masks = run_one("set.gt.u32.f16x2 %x, %a, %b;", "u32", left, right)
    same(masks.view(np.uint16).reshape(-1, 2) == 0xFFFF, left > right)
    ones = run_one("set.gt.f16x2.f16x2 %x, %a, %b;", "f16x2", left, right)
    same(ones, (left > right).astype(np.float16))


def test_true_is_one_for_floating_results() -> None:
    a, b = integers("s32", 2)
    same(run_one("set.lt.f32.s32 %x, %a, %b;", "f32", a, b), (a < b).astype(np.float32))
    c = flags(len(a))
    joined = run_one("set.lt.and.s32.s32 %x, %a, %b, %c;", "s32", a, b, c)
    same(joined, -((a < b) & c).astype(np.int32))
    bits = run_one("set.eq.bf16.bf16 %x, %a, %a;", "bf16", np.array([0x3F80, 0x7FFF], np.uint16))
    assert bits.tolist() == [0x3F80, 0]


def test_subnormal_numbers_are_zeros_with_ftz() -> None:
    tiny, zero = np.array([1e-40, -1e-40, 2e-38], np.float32), np.zeros(3, np.float32)
    plain = run_one("setp.eq.f32 %x, %a, %b;", "pred", tiny, zero)
    flushed = run_one("setp.eq.ftz.f32 %x, %a, %b;", "pred", tiny, zero)
    assert plain.tolist() == [False, False, False]
    assert flushed.tolist() == [True, True, False]


@pytest.mark.parametrize("kind", ["b16", "u32", "s64", "b64", "f32", "f64"])
def test_selection_by_a_predicate(kind: str) -> None:
    a, b = integers(f"u{kind[1:]}", 2)
    c = flags(len(a))
    raw = f"u{DTYPES[kind].itemsize}"
    same(run_one(f"selp.{kind} %x, %a, %b, %c;", kind, a, b, c).view(raw), np.where(c, a, b))
    same(run_one(f"selp.{kind} %x, %a, %b, !%c;", kind, a, b, c).view(raw), np.where(c, b, a))


def test_selection_by_sign() -> None:
    a, b, c = integers("s32", 3)
    same(run_one("slct.s32.s32 %x, %a, %b, %c;", "s32", a, b, c), np.where(c >= 0, a, b))
    sign = np.array([1.0, 0.0, -0.0, -1e-40, -1.0, np.nan], np.float32)
    yes, no = np.ones(6, np.uint64), np.zeros(6, np.uint64)
    plain = run_one("slct.u64.f32 %x, %a, %b, %c;", "u64", yes, no, sign)
    assert plain.tolist() == [1, 1, 1, 0, 0, 0]
    flushed = run_one("slct.ftz.u64.f32 %x, %a, %b, %c;", "u64", yes, no, sign)
    assert flushed.tolist() == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("setp.s32 %x, %a, %b;", "pred b32 b32"),
        ("setp.lt.b32 %x, %a, %b;", "pred b32 b32"),
        ("setp.lo.s32 %x, %a, %b;", "pred b32 b32"),
        ("setp.lo.f32 %x, %a, %b;", "pred b32 b32"),
        ("setp.ltu.s32 %x, %a, %b;", "pred b32 b32"),
        ("setp.lt.ftz.s32 %x, %a, %b;", "pred b32 b32"),
        ("setp.lt.ftz.f64 %x, %a, %b;", "pred b64 b64"),
        ("setp.lt.and.s32 %x, %a, %b;", "pred b32 b32"),
        ("setp.lt.and.or.s32 %x, %a, %b, %x;", "pred b32 b32"),
        ("setp.lt.f16x2 %x, %a, %b;", "pred b32 b32"),
        ("setp.lt.u8 %x, %a, %b;", "pred b32 b32"),
        ("setp.lt.s32 %x, %a, %b;", "b32 b32 b32"),
        ("set.lt.s32 %x, %a, %b;", "b32 b32 b32"),
        ("set.lt.f64.s32 %x, %a, %b;", "b64 b32 b32"),
        ("set.lt.f16.f16x2 %x, %a, %b;", "b16 b32 b32"),
        ("selp.f16 %x, %a, %b, %c;", "b16 b16 b16 pred"),
        ("slct.s32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
        ("slct.ftz.s32.s32 %x, %a, %b, %c;", "b32 b32 b32 b32"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
