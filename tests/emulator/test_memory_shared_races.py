"""Races between the threads of a CTA on shared memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind, Unwritten, emulate
from tuner.emulator.memory import shared_races

SHARED = ".shared .align 16 .b8 s[1024];"
# %r3: this thread's word, %r4: the next thread's, modulo 64 threads
WORDS = """and.b32 %r2, %r0, 63; shl.b32 %r2, %r2, 2; mov.u32 %r9, s; add.s32 %r3, %r9, %r2;
add.s32 %r4, %r0, 1; and.b32 %r4, %r4, 63; shl.b32 %r4, %r4, 2; add.s32 %r4, %r9, %r4;
setp.eq.u32 %p1, %r0, 0; setp.lt.u32 %p2, %r0, 32; setp.eq.u32 %p3, %r0, 40;
or.pred %p4, %p1, %p3;
setp.eq.u32 %p5, %r0, 33;
"""
PUT, GET, SYNC = "st.shared.u32 [%r3], %r0;", "ld.shared.u32 %r5, [%r4];", "bar.sync 0;"
FIRST = "@%p1 st.shared.u32 [s], %r0;"
READ = "ld.shared.u32 %r5, [s];"
WARP = "bar.warp.sync -1;"
ZERO = f"@%p1 st.shared.u32 [s], 0; {SYNC}"


def races(body: str, threads: int = 64, **options: object) -> str | None:
    """What the fault says; None when there is none."""
    try:
        run(WORDS + body, threads=threads, variables=SHARED, **options)  # type: ignore[arg-type]
    except EmulationFault as fault:
        assert fault.kind is FaultKind.SHARED_RACE
        return str(fault)
    return None


@pytest.mark.parametrize(
    "body",
    [
        PUT + SYNC + GET,
        PUT + SYNC + GET + SYNC + PUT,
        PUT + "ld.shared.u32 %r5, [%r3];" + PUT,
        # reads of one place by all, and its writer behind a barrier
        ZERO + "ld.shared.u32 %r5, [s];" + SYNC + FIRST,
        # a strong load and a weak one of what nobody writes, in either order
        ZERO + "ld.volatile.shared.u32 %r5, [s];" + READ,
        ZERO + READ + "ld.volatile.shared.u32 %r5, [s];",
        # all write the same at once
        "st.shared.u32 [s], 7;" + SYNC + "ld.shared.u32 %r5, [s];",
        # bytes side by side
        "add.s32 %r6, %r9, %r0; st.shared.u8 [%r6], %r0;" + SYNC + "ld.shared.u32 %r5, [s];",
        PUT + SYNC + "add.s32 %r6, %r9, %r0; st.shared.u8 [%r6], %r0; ld.shared.u8 %r5, [%r6];",
        # atomics among themselves
        ZERO + "red.shared.add.u32 [s], 1; atom.shared.max.u32 %r5, [s], %r0;",
        # a flag that threads poll
        ZERO + "@%p1 st.volatile.shared.u32 [s], 1; ld.volatile.shared.u32 %r5, [s];",
        # within a warp, its own barrier
        f"@!%p2 bra END; {PUT} {WARP} ld.shared.u32 %r5, [s]; {WARP} {FIRST} END:",
    ],
)
def test_silent(body: str) -> None:
    assert races(body) is None
    assert races(body, ctas=3) is None


@pytest.mark.parametrize(
    ("body", "other"),
    [
        (PUT + GET, "thread (1,0,0)"),
        ("st.shared.u32 [%r4], 5;" + PUT, "wrote"),
        (PUT + SYNC + GET + PUT, "read at PTX line"),
        # the writer has read too, and so have others: of its warp, of another
        (ZERO + "ld.shared.u32 %r5, [s];" + FIRST, "and others read"),
        (ZERO + "@%p2 ld.shared.u32 %r5, [s];" + FIRST, "and others read"),
        (ZERO + "@%p2 ld.shared.u32 %r5, [s]; ld.shared.u32 %r6, [s];" + FIRST, "and others read"),
        (ZERO + "@%p3 ld.shared.u32 %r5, [s];" + FIRST, "thread (40,0,0) of CTA (0,0,0) read"),
        (ZERO + "@%p4 ld.shared.u32 %r5, [s]; @%p3 st.shared.u32 [s], 1;", "and others read"),
        # one reads after the other, and the second writes
        (ZERO + f"@%p1 {READ} @%p3 {READ} @%p3 st.shared.u32 [s], 1;", "and others read"),
        (ZERO + f"@%p5 {READ} @%p3 {READ} @%p3 st.shared.u32 [s], 1;", "and others read"),
        (ZERO + "@%p4 ld.shared.u32 %r5, [s];" + FIRST, "and others read"),
        ("st.shared.u32 [s], %r0;", "wrote"),
        ("@%p2 st.shared.u32 [s], %r0;", "wrote"),
        ("st.shared.u32 [s], 7; ld.shared.u32 %r5, [s];", "and others wrote"),
        (ZERO + "red.shared.add.u32 [s], 1; ld.shared.u32 %r5, [s];", "and others updated"),
        (ZERO + FIRST + "red.shared.add.u32 [s], 1;", "wrote"),
        (ZERO + "ld.shared.u32 %r5, [s]; red.shared.add.u32 [s], 1;", "read"),
        (ZERO + "red.shared.add.u32 [s], 1; @%p3 st.shared.u32 [s], 1;", "updated"),
        (ZERO + "ld.volatile.shared.u32 %r5, [s];" + FIRST, "and others read"),
        (ZERO + "@%p3 st.volatile.shared.u32 [s], 1;" + READ, "(40,0,0) of CTA (0,0,0) updated"),
        # a warp's barrier orders no other warp
        (f"{PUT} {WARP} @%p3 ld.shared.u32 %r5, [s];", "thread (0,0,0)"),
        (f"{PUT} {WARP} @%p3 st.shared.u32 [s], 1;", "thread (0,0,0)"),
        # narrow in wide
        (PUT + SYNC + "@%p3 st.shared.u8 [s+3], %r0; @%p1 ld.shared.u32 %r5, [s];", "(40,0,0)"),
        (PUT + SYNC + "@%p3 st.shared.v4.u32 [s], {%r0, %r0, %r0, %r0};" + GET, "(40,0,0)"),
    ],
)
def test_reported(body: str, other: str) -> None:
    text = races(body)
    assert text is not None and other in text and "no barrier between" in text
    assert races(body, ctas=3) is not None
    assert races(body, checks=False) is None


def test_epochs_are_those_of_each_cta() -> None:
    """CTA 1 passes a barrier more than CTA 0."""
    body = "setp.eq.u32 %p4, %r1, 1; @!%p4 bra ON; bar.sync 0; ON: " + PUT + SYNC + GET
    assert races(body, ctas=2) is None
    body = "setp.eq.u32 %p4, %r1, 1;" + PUT + "@!%p4 bra ON; bar.sync 0; ON: " + GET
    assert "CTA (0,0,0)" in str(races(body, ctas=2))
    assert "CTA (1,0,0)" in str(races(body.replace("@!%p4", "@%p4"), ctas=2))


REDUCE = """
extern "C" __global__ void sum(int const* in, int* out) {
  __shared__ int part[256];
  int i = threadIdx.x;
  part[i] = in[blockIdx.x * 256 + i];
  for (int half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (i < half) part[i] += part[i + half];
  }
  if (i == 0) out[blockIdx.x] = part[0];
}"""


def test_a_tree_of_sums_needs_its_barrier() -> None:
    numbers = np.random.default_rng(0).integers(-1000, 1000, (5, 256), np.int32)
    out = np.zeros(5, np.int32)
    emulate(ptx_of(REDUCE), (5, 1, 1), (256, 1, 1), 0, [numbers, Unwritten(out)])
    assert out.tolist() == numbers.sum(axis=1).tolist()
    broken = ptx_of(REDUCE.replace("__syncthreads();", "if (half == 128) __syncthreads();"))
    with pytest.raises(EmulationFault) as raised:
        emulate(broken, (5, 1, 1), (256, 1, 1), 0, [numbers, Unwritten(out)])
    assert raised.value.kind is FaultKind.SHARED_RACE


ROUNDS = """
extern "C" __global__ void rounds(int* out, int times, int torn) {
  __shared__ int table[64], other[64];
  int t = threadIdx.x, sum = 0;
  table[t] = t;
  __BARRIER__();
  #pragma unroll 1
  for (int i = 0; i < times; ++i) {
    if (i % 5 == 0) sum += table[t ^ 1];   // written before the loop
    if (i == torn) { other[t] = t; sum += other[t ^ 1]; }
    __BARRIER__();
  }
  out[blockIdx.x * 64 + t] = sum;
}"""


@pytest.mark.parametrize(
    ("barrier", "name"), [("__syncthreads", "_EPOCHS"), ("__syncwarp", "_WARP_EPOCHS")]
)
def test_epochs_that_come_round_again(
    barrier: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_races, name, 7)
    ptx = ptx_of(ROUNDS.replace("__BARRIER__", barrier))
    out = np.zeros((2, 64), np.int32)
    emulate(ptx, (2, 1, 1), (64, 1, 1), 0, [Unwritten(out), np.int32(40), np.int32(-1)])
    assert out.tolist() == [[8 * (t ^ 1) for t in range(64)]] * 2
    for torn in (6, 7, 38):
        with pytest.raises(EmulationFault) as raised:
            emulate(ptx, (2, 1, 1), (64, 1, 1), 0, [out, np.int32(40), np.int32(torn)])
        assert raised.value.kind is FaultKind.SHARED_RACE


def test_more_barriers_of_a_warp_than_a_key_can_count() -> None:
    ptx = ptx_of(ROUNDS.replace("__BARRIER__", "__syncwarp"))
    out = np.zeros((1, 64), np.int32)
    emulate(ptx, (1, 1, 1), (64, 1, 1), 0, [Unwritten(out), np.int32(4101), np.int32(-1)])
    assert out[0].tolist() == [821 * (t ^ 1) for t in range(64)]
