"""Atomic instructions against one lane after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search_spaces.errors import UserError
from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, emulate

RANDOM = np.random.default_rng(5)
SHARED = ".shared .align 16 .b8 s[256];"
LANES, PLACES = 96, 5

DTYPES: dict[str, Any] = {
    "u32": np.uint32, "s32": np.int32, "u64": np.uint64, "s64": np.int64, "b32": np.uint32,
    "b64": np.uint64, "f32": np.float32, "f64": np.float64, "b16": np.uint16,
}  # fmt: skip


def wrapped(value: int, dtype: Any) -> Any:
    bits = 8 * np.dtype(dtype).itemsize
    return np.array([value % (1 << bits)], np.uint64).astype(f"u{bits // 8}").view(dtype)[0]


ORACLES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda old, b, t: (
        wrapped(int(old) + int(b), t) if t().dtype.kind in "iu" else t(old + b)
    ),
    "min": lambda old, b, t: min(old, b),
    "max": lambda old, b, t: max(old, b),
    "and": lambda old, b, t: old & b,
    "or": lambda old, b, t: old | b,
    "xor": lambda old, b, t: old ^ b,
    "exch": lambda old, b, t: b,
    "inc": lambda old, b, t: t(0) if old >= b else t(old + 1),
    "dec": lambda old, b, t: b if old == 0 or old > b else t(old - 1),
}
CASES = [
    *(("add", kind) for kind in ("u32", "s32", "u64", "f32", "f64")),
    *((name, kind) for name in ("min", "max") for kind in ("u32", "s32", "u64", "s64")),
    *((name, kind) for name in ("and", "or", "xor", "exch") for kind in ("b32", "b64")),
    ("inc", "u32"), ("dec", "u32"),
]  # fmt: skip


def drawn(name: str, kind: str, count: int) -> Any:
    dtype = DTYPES[kind]
    if np.dtype(dtype).kind == "f":
        return RANDOM.standard_normal(count).astype(dtype)
    if name in ("inc", "dec"):
        return RANDOM.integers(0, 6, count).astype(dtype)
    return RANDOM.integers(0, 256, count * np.dtype(dtype).itemsize).astype(np.uint8).view(dtype)


@pytest.mark.parametrize("space", ["global", "shared", "generic"])
@pytest.mark.parametrize("places", [1, PLACES, LANES])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_lane_after_lane(name: str, kind: str, places: int, space: str) -> None:
    """%rd0: start values, %rd1: operands, %rd2: which place, %rd3: old values, %rd4: the end."""
    size = np.dtype(DTYPES[kind]).itemsize
    start, operand = drawn(name, kind, places), drawn(name, kind, LANES)
    where = RANDOM.integers(0, places, LANES).astype(np.uint32)
    old, end = np.zeros_like(operand), start.copy()
    at, into = ("[%rd9]", "") if space != "shared" else ("[%r9]", ".shared")
    register = {4: ("%r4", "%r5"), 8: ("%rd10", "%rd11")}[size]
    if kind[0] == "f":
        register = {4: ("%f4", "%f5"), 8: ("%rd10", "%rd11")}[size]
    raw = f"b{8 * size}"
    body = f"""
    mul.wide.u32 %rd5, %r0, 4; add.s64 %rd5, %rd5, %rd2; ld.global.u32 %r3, [%rd5];
    mul.wide.u32 %rd5, %r0, {size}; add.s64 %rd6, %rd5, %rd1; add.s64 %rd7, %rd5, %rd3;
    ld.global.{raw} {register[1]}, [%rd6];
    mul.wide.u32 %rd9, %r3, {size}; cvt.u32.u64 %r9, %rd9; mov.u32 %r8, s; add.s32 %r9, %r9, %r8;
    mul.wide.u32 %rd12, %r0, {size}; add.s64 %rd12, %rd12, %rd0;
    mul.lo.u32 %r10, %r0, {size}; add.s32 %r10, %r10, %r8;
    setp.lt.u32 %p1, %r0, {places}; add.s64 %rd9, %rd9, %rd4;
    """
    load = "%rd13" if size == 8 else "%r13"
    if space == "shared":
        body += f"@%p1 ld.global.{raw} {load}, [%rd12]; @%p1 st.shared.{raw} [%r10], {load};"
        body += "bar.sync 0;"
    dot = ".global" if space == "global" else into
    body += f"atom{dot}.{name}.{kind} {register[0]}, {at}, {register[1]};"
    body += f"st.global.{raw} [%rd7], {register[0]}; bar.sync 0;"
    if space == "shared":
        body += f"""@%p1 ld.shared.{raw} {load}, [%r10];
        sub.s64 %rd12, %rd12, %rd0; add.s64 %rd12, %rd12, %rd4;
        @%p1 st.global.{raw} [%rd12], {load};"""
    smem = ".shared .align 16 .b8 s[1024];"
    run(body, [start, operand, where, old, end], threads=LANES, variables=smem)
    expected = start.copy()
    for lane in range(LANES):
        before = expected[where[lane]]
        assert old[lane] == before
        expected[where[lane]] = ORACLES[name](before, operand[lane], DTYPES[kind])
    assert end.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["b16", "b32", "b64"])
def test_compare_and_swap(kind: str) -> None:
    """Each lane swaps 3 for its own number: only the first finds a 3."""
    size = np.dtype(DTYPES[kind]).itemsize
    value, old = np.array([3], DTYPES[kind]), np.zeros(32, DTYPES[kind])
    name, move = {2: ("%h", "cvt.u16.u32"), 4: ("%r2", "mov.u32"), 8: ("%rd1", "cvt.u64.u32")}[size]
    body = f"""add.s32 %r0, %r0, 10; {move} {name}1, %r0; sub.s32 %r0, %r0, 10;
    atom.global.cas.{kind} {name}2, [%rd0], 3, {name}1;
    mul.wide.u32 %rd5, %r0, {size}; add.s64 %rd5, %rd5, %rd1; st.global.{kind} [%rd5], {name}2;"""
    run(body, [value, old])
    assert value[0] == 10 and old.tolist() == [3] + [10] * 31


def test_halves() -> None:
    """Two by two, rounded after each addition; and one."""
    pairs = RANDOM.standard_normal((32, 2)).astype(np.float16)
    total, single = np.zeros(2, np.float16), np.ones(1, np.float16)
    run("""mul.wide.u32 %rd3, %r0, 4; add.s64 %rd3, %rd3, %rd0; ld.global.b32 %r2, [%rd3];
    red.global.add.noftz.f16x2 [%rd1], %r2; mov.b32 {%h1, %h2}, %r2;
    atom.global.add.noftz.f16 %h3, [%rd2], %h1;""", [pairs, total, single])  # fmt: skip
    expected, one = np.zeros(2, np.float16), np.float16(1)
    for pair in pairs:
        expected, one = expected + pair, one + pair[0]
    assert total.tolist() == expected.tolist() and single[0] == one


def test_subnormals_are_flushed_in_global_memory_only() -> None:
    tiny = np.float32(1e-40)
    values = np.array([tiny, tiny, 0, -tiny], np.float32)
    body = """ld.global.f32 %f1, [%rd0]; st.shared.f32 [s], %f1; atom.shared.add.f32 %f2, [s], %f1;
    ld.shared.f32 %f3, [s]; st.global.f32 [%rd0+8], %f3; red.global.add.f32 [%rd0+4], %f1;
    red.global.add.f32 [%rd0+12], 0f80000000;"""
    run(body, [values], threads=1, variables=SHARED)
    assert values[1] == 0 and values[2] == 2 * tiny
    assert values[3] == 0 and np.signbit(values[3])


@pytest.mark.parametrize(
    "semantics", ["", ".relaxed", ".acquire.gpu", ".release.sys", ".acq_rel.gpu", ".relaxed.cta"]
)
def test_semantics_do_not_change_values(semantics: str) -> None:
    value = np.zeros(1, np.uint32)
    of_red = "" if "acq" in semantics else semantics  # what red reads can acquire nothing
    run(f"atom{semantics}.global.add.u32 %r2, [%rd0], 2; red{of_red}.global.add.u32 [%rd0], 1;",
        [value])  # fmt: skip
    assert value[0] == 96


def test_a_lock_per_cta() -> None:
    source = """
    extern "C" __global__ void locked(int* lock, int* sum) {
      if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0) {}
        __threadfence();
        *sum += blockIdx.x;
        __threadfence();
        atomicExch(lock, 0);
      }
    }"""
    lock, total = np.zeros(1, np.int32), np.zeros(1, np.int32)
    args = [lock, total]
    emulate(ptx_of(source), (20, 1, 1), (32, 1, 1), 0, args, cohort_lanes=256)
    assert total[0] == 190 and lock[0] == 0
    broken = source.replace("__threadfence();\n        atomicExch", "atomicExch")
    with pytest.raises(EmulationFault, match="race on global memory"):
        emulate(ptx_of(broken), (20, 1, 1), (32, 1, 1), 0, args, cohort_lanes=256)


@pytest.mark.parametrize(
    "body",
    [
        "atom.global.sub.u32 %r2, [%rd0], 1;",
        "atom.global.add.u16 %h2, [%rd0], %h1;",
        "atom.global.add.s64 %rd2, [%rd0], 1;",
        "atom.global.min.f32 %f2, [%rd0], %f1;",
        "atom.global.add.f16x2 %r2, [%rd0], %r1;",
        "atom.global.add.noftz.f32 %f2, [%rd0], %f1;",
        "atom.global.cas.b32 %r2, [%rd0], 1;",
        "atom.global.v2.add.f32 {%f1, %f2}, [%rd0], {%f1, %f2};",
        "atom.local.add.u32 %r2, [%rd0], 1;",
        "atom.global.acquire.release.add.u32 %r2, [%rd0], 1;",
        "red.global.exch.b32 %r2, [%rd0], 1;",
        "red.global.exch.b32 [%rd0], 1;",
        "red.global.cas.b32 [%rd0], 1, 2;",
        "red.acquire.gpu.global.add.u32 [%rd0], 1;",
        "red.acq_rel.gpu.global.add.u32 [%rd0], 1;",
        "red.async.global.add.u32 [%rd0], 1;",
    ],
)
def test_unknown_forms(body: str) -> None:
    with pytest.raises(UserError, match=r"PTX line 1[0-9]"):
        run(body, [np.zeros(4, np.uint32)])


def test_atomics_on_memory_that_has_none() -> None:
    with pytest.raises(EmulationFault, match="never atomic"):
        run(".local .align 4 .b8 l[4]; cvta.local.u64 %rd1, l; atom.add.u32 %r2, [%rd1], 1;")
