"""Threads and CTAs that wait for others: who goes on, who never will."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind, Unwritten, emulate

HALVES = """
extern "C" __global__ void halves(int* out) {
  __shared__ volatile int go;
  int t = threadIdx.x;
  if (t == 0) go = 0;
  __syncwarp();
  if (t > 16) while (go == 0) {}     // until the lower half has exchanged
  int other = __shfl_xor_sync(t < 16 ? 0xffffu : 0xffff0000u, t, 1);
  if (t == 3) go = 1;
  out[t] = other;
}"""


def test_lanes_wait_for_the_members_of_their_own_mask_only() -> None:
    out = np.zeros(32, np.int32)
    emulate(ptx_of(HALVES), (1, 1, 1), (32, 1, 1), 0, [Unwritten(out)])
    assert out.tolist() == [t ^ 1 for t in range(32)]


PREDICATED = """
extern "C" __global__ void predicated(int* out, unsigned lower) {
  int t = threadIdx.x, other = -1;
  unsigned mask = t < 16 ? lower : 0xffffffffu;
  if (t == 20) while (((volatile int*)out)[17] == 0) {}
  asm volatile("{.reg .pred p; setp.lt.u32 p, %1, 16;"
               "@p shfl.sync.bfly.b32 %0, %1, 1, 31, %2;}" : "+r"(other) : "r"(t), "r"(mask));
  out[t] = other + 2;
}"""


def test_lanes_whose_predicate_does_not_hold_wait_for_nobody() -> None:
    out = np.zeros(32, np.int32)
    emulate(ptx_of(PREDICATED), (1, 1, 1), (32, 1, 1), 0, [out, np.uint32(0xFFFF)])
    assert out.tolist() == [(t ^ 1) + 2 if t < 16 else 1 for t in range(32)]


BUSY = """
extern "C" __global__ void busy(volatile int* flag, int* spins) {
  if (blockIdx.x == 0) {
    while (*flag == 0) atomicAdd(spins, 1);
  } else {
    *flag = 1;
  }
}"""


@pytest.mark.parametrize("cohort_lanes", [32, 4096])
def test_who_polls_and_writes_gives_way_too(cohort_lanes: int) -> None:
    flag, spins = np.zeros(1, np.int32), np.zeros(1, np.int32)
    emulate(
        ptx_of(BUSY), (2, 1, 1), (32, 1, 1), 0, [flag, spins],
        cohort_lanes=cohort_lanes, budget=100_000,
    )  # fmt: skip
    assert flag[0] == 1


LONG = """
extern "C" __global__ void read_often(volatile int* in, int* out, int times) {
  int sum = 0;
  #pragma unroll 1
  for (int i = 0; i < times; ++i) sum += in[threadIdx.x];
  out[threadIdx.x] = sum;
}"""


def test_a_long_loop_that_reads_volatile_memory_is_no_deadlock() -> None:
    values, out = np.arange(32, dtype=np.int32), np.zeros(32, np.int32)
    emulate(ptx_of(LONG), (1, 1, 1), (32, 1, 1), 0, [values, Unwritten(out), np.int32(5000)])
    assert (out == 5000 * values).all()


TABLE = """
targets: .branchtargets LOOP, OUT, SET;
setp.eq.u32 %p1, %r1, 1;
@%p1 bra SET;
LOOP:
ld.volatile.global.u32 %r3, [%rd0];
setp.ne.u32 %p2, %r3, 0;
selp.u32 %r4, 1, 0, %p2;
brx.idx %r4, targets;
SET:
st.volatile.global.u32 [%rd0], 1;
OUT:
"""


@pytest.mark.parametrize("cohort_lanes", [32, 4096])
def test_who_polls_in_a_loop_of_table_branches_gives_way(cohort_lanes: int) -> None:
    run(TABLE, [np.zeros(1, np.int32)], ctas=2, cohort_lanes=cohort_lanes, budget=10_000)


FOR_EACH_OTHER = """
extern "C" __global__ void each_other(volatile int* flags) {
  int me = blockIdx.x;
  if (me < 2) {
    while (flags[1 - me] == 0) {}
    flags[me] = 1;
  }
}"""


@pytest.mark.parametrize("cohort_lanes", [32, 4096])
def test_a_deadlock_is_told_as_soon_as_nothing_moves(cohort_lanes: int) -> None:
    start = time.perf_counter()
    with pytest.raises(EmulationFault, match="polls memory that no other CTA") as caught:
        emulate(
            ptx_of(FOR_EACH_OTHER), (40, 1, 1), (32, 1, 1), 0, [np.zeros(2, np.int32)],
            cohort_lanes=cohort_lanes,
        )  # fmt: skip
    assert caught.value.kind is FaultKind.DEADLOCK
    assert time.perf_counter() - start < 5
