"""Moves, packing and unpacking."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.numbers_oracle import floats, integers, same
from tests.emulator.snippets import refuses, run, run_one

KINDS = ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64")


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_copied(kind: str) -> None:
    [a] = integers(kind if kind[0] != "b" else f"u{kind[1:]}", 1)
    same(run_one(f"mov.{kind} %x, %a;", kind, a), a)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_floats_keep_every_bit(kind: str) -> None:
    [a] = floats(kind, 1)
    raw = f"u{kind[1:]}"
    same(run_one(f"mov.{kind} %x, %a;", raw, a), a.view(f"u{a.dtype.itemsize}"))


def test_constants_and_predicates() -> None:
    one = np.zeros(5, np.uint32)
    same(run_one("mov.u32 %x, -3;", "s32", one), np.full(5, -3, np.int32))
    same(run_one("mov.f32 %x, 0fC0490FDB;", "f32", one), np.full(5, -np.pi, np.float32))
    same(run_one("mov.f64 %x, 1.5;", "f64", one), np.full(5, 1.5))
    same(run_one("mov.pred %x, 1;", "pred", one), np.full(5, True))
    flags = np.array([True, False, True])
    same(run_one("mov.pred %x, %a;", "pred", flags), flags)
    same(run_one("mov.pred %x, !%a;", "pred", flags), ~flags)


def test_special_registers() -> None:
    lanes = np.zeros(70, np.uint32)
    same(run_one("mov.u32 %x, %tid.x;", "u32", lanes), np.arange(70, dtype=np.uint32))
    same(run_one("mov.u32 %x, %laneid;", "u32", lanes), np.arange(70, dtype=np.uint32) % 32)
    same(run_one("mov.u32 %x, %ntid.x;", "u32", lanes), np.full(70, 96, np.uint32))
    same(run_one("mov.u32 %x, WARP_SZ;", "u32", lanes), np.full(70, 32, np.uint32))


@pytest.mark.parametrize(("whole", "part", "count"), [(32, 16, 2), (64, 32, 2), (64, 16, 4)])
def test_packing_is_the_inverse_of_unpacking(whole: int, part: int, count: int) -> None:
    [a] = integers(f"u{whole}", 1)
    names = [f"%{name}" for name in "xyzw"[:count]]
    parts = run(f"mov.b{whole} {{{', '.join(names)}}}, %a;", f"b{part} " * count, a)
    for i, found in enumerate(parts):
        same(found, (a >> np.uint64(part * i)).astype(f"u{part // 8}"))
    operands = ", ".join(f"%{name}" for name in "abcd"[:count])
    same(run_one(f"mov.b{whole} %x, {{{operands}}};", f"b{whole}", *parts), a)


def test_a_part_may_be_dropped_or_constant() -> None:
    a = np.array([0x12345678, 0xFFFF0001], np.uint32)
    same(run_one("mov.b32 {_, %x}, %a;", "b16", a), np.array([0x1234, 0xFFFF], np.uint16))
    low = np.array([0x3F80, 0x8000], np.uint16)
    # What NVRTC makes of __bfloat162float.
    packed = run_one("mov.b32 %x, {0, %a};", "u32", low)
    same(packed, low.astype(np.uint32) << np.uint32(16))


def test_unpacking_into_its_own_source() -> None:
    a = np.array([0x12345678_9ABCDEF0], np.uint64)
    text = "mov.b64 %x, %a; mov.b64 {%y, %z}, %x; mov.b64 %x, {%z, %y};"
    found, *_ = run(text, "b64 b32 b32", a)
    same(found, np.array([0x9ABCDEF0_12345678], np.uint64))


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("mov.b8 %x, %a;", "b16 b16"),
        ("mov.b128 %x, %a;", "b64 b64"),
        ("mov.u32 %x, {%a, %b};", "b32 b16 b16"),
        ("mov.b32 %x, {%a, %b, %c};", "b32 b16 b16 b16"),
        ("mov.b16 %x, {%a, %b, %a, %b};", "b16 b16 b16"),
        ("mov.b32 {%x, %b}, {%a, %b};", "b16 b16 b16"),
        ("mov.b32 %x, {%a, %b};", "b32 pred pred"),
        ("mov.u32 %x, %a;", "b32 pred"),
        ("mov.u64 %x, %a;", "b64 b32"),
        ("mov.u32 %x, unheard_of;", "b32"),
        ("mov.sync.u32 %x, %a;", "b32 b32"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
