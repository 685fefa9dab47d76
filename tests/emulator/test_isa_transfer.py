"""Loads, stores and address conversions, as instructions."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.errors import UserError
from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import Unwritten, emulate

RANDOM = np.random.default_rng(3)
SHARED = ".shared .align 16 .b8 s[2048];"
PLACES = """mul.wide.u32 %rd2, %r0, {size}; add.s64 %rd3, %rd2, %rd0; add.s64 %rd4, %rd2, %rd1;
mul.lo.u32 %r9, %r0, {size}; mov.u32 %r8, s; add.s32 %r9, %r9, %r8;
"""


@pytest.mark.parametrize("kind", ["b", "u", "s"])
@pytest.mark.parametrize(
    ("bits", "vector"), [(b, v) for b in (8, 16, 32, 64) for v in (1, 2, 4) if b * v <= 128]
)
def test_every_width_goes_through_shared_memory(kind: str, bits: int, vector: int) -> None:
    size = bits * vector // 8
    names = {8: "%h", 16: "%h", 32: "%r1", 64: "%rd1"}[bits]
    registers = ", ".join(f"{names}{i}" for i in range(vector))
    registers = registers if vector == 1 else f"{{{registers}}}"
    opcode = f"{'' if vector == 1 else f'.v{vector}'}.{kind}{bits}"
    body = PLACES.format(size=size) + (
        f"ld.global{opcode} {registers}, [%rd3]; st.shared{opcode} [%r9], {registers};"
        f"ld.shared{opcode} {registers}, [%r9]; st.global{opcode} [%rd4], {registers};"
    )
    source = RANDOM.integers(0, 256, 32 * size).astype(np.uint8)
    out = np.zeros_like(source)
    run(body, [source, Unwritten(out)], variables=SHARED)
    assert out.tolist() == source.tolist()


@pytest.mark.parametrize(
    ("kind", "expected"), [("s8", -5), ("u8", 251), ("b8", 251), ("s16", -5), ("u16", 65531)]
)
def test_a_wider_register_is_extended(kind: str, expected: int) -> None:
    out = np.zeros(1, np.int64)
    body = f"ld.global.{kind} %rd2, [%rd0]; st.global.u64 [%rd1], %rd2;"
    run(body, [np.array([-5], np.int16), out], threads=1)
    assert out[0] == expected


def test_a_wider_register_is_truncated() -> None:
    out = np.zeros(4, np.uint8)
    run("mov.u32 %r2, 0x12345678; st.global.u8 [%rd0+1], %r2;", [out], threads=1)
    assert out.tolist() == [0, 0x78, 0, 0]


def test_constants_and_sinks_in_vectors() -> None:
    out = np.zeros(4, np.float32)
    body = """mov.f32 %f1, 0f40000000; st.global.v4.f32 [%rd0], {%f1, 0f3F800000, %f1, 0f3F800000};
    ld.global.v2.f32 {_, %f2}, [%rd0]; st.global.f32 [%rd0+8], %f2;"""
    run(body, [out], threads=1)
    assert out.tolist() == [2, 1, 1, 1]


@pytest.mark.parametrize(
    "cache",
    ["ca", "cg", "cs", "lu", "cv", "nc", "volatile", "relaxed.gpu", "acquire.sys", "weak",
     "nc.L1::no_allocate.L2::128B", "L1::evict_last", "nc.L1::evict_first.L2::256B"],
)  # fmt: skip
def test_hints_change_nothing(cache: str) -> None:
    order = cache if "relaxed" in cache or "acquire" in cache or cache == "volatile" else ""
    modifiers = f".{order}.global" if order else f".global.{cache}"
    modifiers = ".weak.global" if cache == "weak" else modifiers
    out = np.zeros(2, np.int32)
    run(f"ld{modifiers}.u32 %r2, [%rd0]; st.global.u32 [%rd0+4], %r2;", [out := out + 3], threads=1)
    assert out.tolist() == [3, 3]


@pytest.mark.parametrize("how", ["wb", "cg", "cs", "wt", "L1::evict_first"])
def test_stores_with_hints(how: str) -> None:
    out = np.zeros(1, np.int32)
    run(f"st.global.{how}.u32 [%rd0], 3; prefetch.global.L2 [%rd0+99999]; prefetchu.L1 [0];", [out])
    assert out[0] == 3


def test_generic_addresses_lead_to_each_space() -> None:
    source = """
    __constant__ int table[4] = {10, 11, 12, 13};
    struct Pair { int a[4]; };
    extern "C" __global__ void pick(int const* in, int* out, Pair given, int n) {
      __shared__ int shared[4];
      int local[4];
      for (int i = 0; i < 4; ++i) local[(i + n) & 3] = 30 + ((i + n) & 3);
      if (threadIdx.x < 4) shared[threadIdx.x] = 20 + threadIdx.x;
      __syncthreads();
      int which = threadIdx.x >> 2, i = threadIdx.x & 3;
      int const* from = which == 0 ? table : which == 1 ? shared : which == 2 ? local : in;
      out[threadIdx.x] = from[i] + given.a[i];
    }"""
    out = np.zeros(16, np.int32)
    given = np.array([100, 200, 300, 400], np.int32).tobytes()
    inputs = np.arange(40, 44, dtype=np.int32)
    ptx = ptx_of(source)
    assert "cvta" in ptx
    emulate(ptx, (1, 1, 1), (16, 1, 1), 0, [inputs, Unwritten(out), given, np.int32(1)])
    expected = [10 * (1 + which) + i + 100 * (1 + i) for which in range(4) for i in range(4)]
    assert out.tolist() == expected


def test_conversions_and_what_lies_where() -> None:
    """Each generic address back to its space, and which of five spaces it lies in."""
    spaces = ["global", "shared", "local", "const", "param"]
    variables = SHARED + ".const .align 8 .b8 c[16];"
    body = ".local .align 8 .b8 l[16]; add.s64 %rd10, %rd0, 8; "
    names = {"shared": "s", "local": "l", "const": "c", "param": "a0"}
    body += "".join(
        f"cvta.{space}.u64 %rd{11 + i}, {names[space]}; add.s64 %rd{11 + i}, %rd{11 + i}, 8;"
        for i, space in enumerate(spaces[1:])
    )
    for i, of in enumerate(spaces):
        for j, space in enumerate(spaces):
            body += f"isspacep.{space} %p1, %rd{10 + i}; selp.u32 %r2, 1, 0, %p1;"
            body += f"st.global.u8 [%rd0+{5 * i + j}], %r2;"
        body += f"cvta.to.{of}.u64 %rd5, %rd{10 + i};"
        body += "sub.s64 %rd5, %rd5, %rd0; " if of == "global" else ""
        body += f"st.global.u64 [%rd0+{32 + 8 * i}], %rd5;"
    out = np.zeros(9 * 8, np.uint8)
    run(body, [out], threads=1, variables=variables)
    expected = np.eye(5)
    expected[spaces.index("param"), spaces.index("global")] = 1  # its window is a part of global's
    assert out[:25].reshape(5, 5).tolist() == expected.tolist()
    assert out[32:].view(np.uint64).tolist() == [8] * 5


@pytest.mark.parametrize(
    "body",
    [
        "ld.global.v8.b32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%rd0];",
        "ld.global.v4.b64 {%rd1, %rd2, %rd3, %rd4}, [%rd0];",
        "ld.global.v2.b32 %r1, [%rd0];",
        "ld.global.b32 {%r1, %r2}, [%rd0];",
        "ld.global.evict_never.b32 %r1, [%rd0];",
        "ld.shared::cluster.b32 %r1, [%r2];",
        "ld.relaxed.global.b32 %r1, [%rd0];",
        "ld.relaxed.volatile.gpu.global.b32 %r1, [%rd0];",
        "ld.global.shared.b32 %r1, [%rd0];",
        "ld.global.f16 %h1, [%rd0];",
        "ld.global.b64 %r1, [%rd0];",
        "st.const.b32 [%rd0], %r1;",
        "st.param.b32 [a0], %r1;",
        "st.release.global.b32 [%rd0], %r1;",
        "st.global.nc.b32 [%rd0], %r1;",
        "cvta.u64 %rd1, %rd0;",
        "cvta.to.global.u32 %r1, %r2;",
        "isspacep.u64 %p1, %rd0;",
        "fence.proxy.alias;",
        "fence.acq_rel;",
        "membar;",
        "nanosleep.u32 %r1, %r2;",
        "bar.arrive 1;",
    ],
)
def test_unknown_forms_are_errors_that_name_the_line(body: str) -> None:
    with pytest.raises(UserError, match=r"PTX line 1[0-9]"):
        run(body, [np.zeros(64, np.uint8)], variables=SHARED)


def test_nanosleep_in_a_loop_lets_others_go_on() -> None:
    source = """
    extern "C" __global__ void wait(int volatile* flag, int* out) {
      if (blockIdx.x == 0) { while (*flag == 0) asm volatile("nanosleep.u32 20;"); *out = 1; }
      else { __threadfence(); *flag = 1; }
    }"""
    out, flag = np.zeros(1, np.int32), np.zeros(1, np.int32)
    emulate(ptx_of(source), (2, 1, 1), (32, 1, 1), 0, [flag, out], cohort_lanes=32)
    assert out[0] == 1
