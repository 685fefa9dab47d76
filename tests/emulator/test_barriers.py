"""Barriers that warps and CTAs come to in different ways."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.cuda import ptx_of
from tuner.emulator import EmulationFault, FaultKind, Unwritten, emulate

WARPS_REDUCE_APART = """
__device__ int ones(int holds) {
  int count;
  asm volatile("{.reg .pred p; setp.ne.u32 p, %1, 0; bar.red.popc.u32 %0, 0, p;}"
               : "=r"(count) : "r"(holds));
  return count;
}
extern "C" __global__ void apart(int* out) {
  int t = threadIdx.x;
  if (t < 32) out[t] = 1000 + ones(t % 2);
  else out[t] = 2000 + ones(t % 4 == 0);
}"""


def test_warps_come_to_one_reduction_by_two_instructions() -> None:
    out = np.zeros(64, np.int32)
    run = emulate(ptx_of(WARPS_REDUCE_APART), (1, 1, 1), (64, 1, 1), 0, [Unwritten(out)])
    assert out.tolist() == [1016 + 8] * 32 + [2016 + 8] * 32
    assert run.counters is not None
    assert run.counters.totals().barriers == 1


CTAS_DIFFER = """
extern "C" __global__ void differ(int* out) {
  int t = threadIdx.x, mine = blockIdx.x * blockDim.x + t, result = 9;
  // The second warp comes later, thread after thread, in every CTA.
  if (t >= 32) for (int i = 0; i < t; ++i) out[mine] += i;
  if (blockIdx.x == 0) result = __syncthreads_count(t % 2);
  else if (blockIdx.x == 1) __syncthreads();
  else result = __syncthreads_and(t < 63);
  out[mine] = result;
}"""


@pytest.mark.parametrize("cohort_lanes", [64, 4096])
def test_every_cta_has_barriers_of_its_own(cohort_lanes: int) -> None:
    out = np.zeros((3, 64), np.int32)
    emulate(ptx_of(CTAS_DIFFER), (3, 1, 1), (64, 1, 1), 0, [out], cohort_lanes=cohort_lanes)
    assert out.tolist() == [[32] * 64, [9] * 64, [0] * 64]


COUNTS_CHANGE = """
extern "C" __global__ void change(int* out) {
  int warp = threadIdx.x / 32;
  if (blockIdx.x == 0) {
    if (warp < 2) asm volatile("bar.sync 1, 64;" ::: "memory");
    if (warp == 0) asm volatile("bar.sync 1, 32;" ::: "memory");
  } else if (warp != 2) {
    for (int i = 0; i < warp * 3 + 5; ++i) out[threadIdx.x + 128] += i;
    asm volatile("bar.sync 1, 96;" ::: "memory");
  }
  out[blockIdx.x * 128 + threadIdx.x] = 7;
}"""


def test_a_barrier_has_another_count_the_next_time() -> None:
    out = np.zeros(256, np.int32)
    emulate(ptx_of(COUNTS_CHANGE), (2, 1, 1), (128, 1, 1), 0, [out])
    assert (out == 7).all()


COUNTED = """
extern "C" __global__ void counted(int* out, int left) {
  if (threadIdx.x >= 8 && threadIdx.x < 8 + left) return;
  asm volatile("bar.sync 1, 64;" ::: "memory");
  out[threadIdx.x] = 1;
}"""


@pytest.mark.parametrize(("threads", "left"), [(40, 0), (64, 5), (40, 3)])
def test_a_warp_counts_as_whole_at_a_counted_barrier(threads: int, left: int) -> None:
    out = np.zeros(threads, np.int32)
    emulate(ptx_of(COUNTED), (1, 1, 1), (threads, 1, 1), 0, [out, np.int32(left)])
    assert out.tolist() == [0 if 8 <= t < 8 + left else 1 for t in range(threads)]


NAMED_BY_WARP = """
extern "C" __global__ void by_warp(int* out, int first, int count) {
  int number = first + threadIdx.x / 32;
  if (count) asm volatile("bar.sync %0, %1;" :: "r"(number), "r"(count) : "memory");
  else asm volatile("bar.sync %0;" :: "r"(number) : "memory");
  out[threadIdx.x] = 1;
}"""


def test_barriers_of_all_threads_that_each_warp_names_otherwise_wait_for_ever() -> None:
    args = [np.zeros(64, np.int32), np.int32(3), np.int32(0)]
    with pytest.raises(EmulationFault, match="waits for ever: 64 threads") as caught:
        emulate(ptx_of(NAMED_BY_WARP), (1, 1, 1), (64, 1, 1), 0, args)
    assert caught.value.kind is FaultKind.BARRIER
    args[2] = np.int32(32)  # each warp by itself is fine
    emulate(ptx_of(NAMED_BY_WARP), (1, 1, 1), (64, 1, 1), 0, args)


@pytest.mark.parametrize(
    ("first", "count", "message"),
    [(16, 32, "names barrier 16: there are 0 to 15"), (1, 40, "names 40 threads: .* multiple")],
)
def test_barriers_that_cannot_be(first: int, count: int, message: str) -> None:
    args = [np.zeros(32, np.int32), np.int32(first), np.int32(count)]
    with pytest.raises(EmulationFault, match=message) as caught:
        emulate(ptx_of(NAMED_BY_WARP), (1, 1, 1), (32, 1, 1), 0, args)
    assert caught.value.kind is FaultKind.BARRIER
