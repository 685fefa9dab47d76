"""The machine: threads that part and meet, barriers, CTAs that wait for each other."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.errors import UserError
from tests.emulator.cuda import ptx_of
from tuner.emulator import EmulationFault, FaultKind, Unwritten, emulate
from tuner.emulator.ptx import PtxError

COLLATZ = """
extern "C" __global__ void steps(int const* start, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  long long x = start[i];
  int count = 0;
  while (x != 1) {
    if (x % 2) x = 3 * x + 1;
    else x /= 2;
    ++count;
  }
  out[i] = count;
}"""


def collatz(x: int) -> int:
    count = 0
    while x != 1:
        x, count = (3 * x + 1 if x % 2 else x // 2), count + 1
    return count


@pytest.mark.parametrize("threads", [1, 33, 96])
@pytest.mark.parametrize("cohort_lanes", [32, 100_000])
def test_threads_take_different_ways_and_times(threads: int, cohort_lanes: int) -> None:
    start = np.arange(1, 151, dtype=np.int32)
    out = np.zeros_like(start)
    grid = (-(-len(start) // threads), 1, 1)
    emulate(
        ptx_of(COLLATZ), grid, (threads, 1, 1), 0,
        [start, Unwritten(out), np.int32(len(start))], cohort_lanes=cohort_lanes,
    )  # fmt: skip
    assert out.tolist() == [collatz(int(x)) for x in start]


GRID = """
extern "C" __global__ void place(int4* out) {
  int cta = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[cta * blockDim.x * blockDim.y * blockDim.z + thread] =
      make_int4(blockIdx.y, blockIdx.z, threadIdx.y, threadIdx.z);
}"""


def test_three_dimensions_and_a_sample_of_ctas() -> None:
    grid, block = (2, 3, 2), (5, 2, 3)
    out = np.full((12, 30, 4), -1, np.int32)
    emulate(ptx_of(GRID), grid, block, 0, [out], ctas=[0, 7, 11])
    for cta in range(12):
        for thread in range(30):
            by, bz, ty, tz = cta // 2 % 3, cta // 6, thread // 5 % 2, thread // 10
            want = [by, bz, ty, tz] if cta in (0, 7, 11) else [-1] * 4
            assert out[cta, thread].tolist() == want


def test_ctas_that_do_not_depend_on_each_other_run_in_processes() -> None:
    start = np.arange(1, 101, dtype=np.int32)
    out = np.zeros_like(start)
    args = [start, Unwritten(out), np.int32(len(start))]
    spread = emulate(ptx_of(COLLATZ), (4, 1, 1), (32, 1, 1), 0, args, processes=2)
    assert out.tolist() == [collatz(int(x)) for x in start]
    alone = emulate(ptx_of(COLLATZ), (4, 1, 1), (32, 1, 1), 0, args)
    assert spread.counters is not None and alone.counters is not None
    assert spread.counters.totals() == alone.counters.totals()
    assert spread.ctas == 4


TWICE = """
extern "C" __global__ void add(int const* in, int* out) {
  out[blockIdx.x] = in[blockIdx.x] + 1;
}"""


def test_processes_take_the_arrays_that_one_process_takes() -> None:
    numbers = np.arange(4, dtype=np.int32)
    emulate(ptx_of(TWICE), (4, 1, 1), (1, 1, 1), 0, [numbers, numbers], processes=2)
    assert numbers.tolist() == [1, 2, 3, 4]  # the array given twice is one
    out = np.zeros(8, np.int32)
    with pytest.raises(UserError, match="contiguous"):
        emulate(ptx_of(TWICE), (4, 1, 1), (1, 1, 1), 0, [numbers, out[::2]], processes=2)
    out.flags.writeable = False
    with pytest.raises(UserError, match=r"wrote to .*read-only"):
        emulate(ptx_of(TWICE), (4, 1, 1), (1, 1, 1), 0, [numbers, out], processes=2)


def test_ctas_that_depend_on_each_other_need_one_process() -> None:
    lock, total = np.zeros(1, np.int32), np.zeros(1, np.int32)
    with pytest.raises(UserError, match=r"depend on each other .*processes=1"):
        emulate(ptx_of(LOCK), (4, 1, 1), (32, 1, 1), 0, [lock, total], processes=2)
    clash = """extern "C" __global__ void clash(int* out) { out[0] = 1 + blockIdx.x; }"""
    with pytest.raises(UserError, match="wrote different values to byte 0 of argument 0"):
        emulate(ptx_of(clash), (2, 1, 1), (1, 1, 1), 0, [lock], processes=2)
    with pytest.raises(EmulationFault, match="race on global memory at PTX line") as caught:
        emulate(ptx_of(clash), (4, 1, 1), (1, 1, 1), 0, [lock], processes=2)
    assert caught.value.kind is FaultKind.GLOBAL_RACE


SWITCH = """
extern "C" __global__ void choose(int const* in, int* out) {
  int x = in[threadIdx.x];
  switch (x) {
    case 0: out[threadIdx.x] = 7; break;
    case 1: out[threadIdx.x] = x * 3; break;
    case 2: out[threadIdx.x] = x << 5; break;
    case 3: out[threadIdx.x] = -x; break;
    case 4: out[threadIdx.x] = x ^ 77; break;
    case 5: out[threadIdx.x] = 1000 / x; break;
    case 6: out[threadIdx.x] = x * x * x; break;
    default: out[threadIdx.x] = 99;
  }
}"""


def test_a_switch() -> None:
    values = np.array([0, 1, 2, 3, 4, 5, 6, 7, -1, 100], np.int32)
    out = np.zeros_like(values)
    emulate(ptx_of(SWITCH), (1, 1, 1), (10, 1, 1), 0, [values, Unwritten(out)])
    assert out.tolist() == [7, 3, 64, -3, 73, 200, 216, 99, 99, 99]


SCAN = """
extern "C" __global__ void scan(int* data) {  // inclusive, over the block
  __shared__ int sums[256];
  int t = threadIdx.x;
  sums[t] = data[blockIdx.x * blockDim.x + t];
  __syncthreads();
  for (int d = 1; d < blockDim.x; d *= 2) {
    int x = t >= d ? sums[t - d] : 0;
    __syncthreads();
    sums[t] += x;
    __syncthreads();
  }
  data[blockIdx.x * blockDim.x + t] = sums[t];
}"""


def test_barriers() -> None:
    data = np.random.default_rng(1).integers(0, 100, (5, 160)).astype(np.int32)
    want = np.cumsum(data, axis=1)
    run = emulate(ptx_of(SCAN), (5, 1, 1), (160, 1, 1), 0, [data])
    assert (data == want).all()
    assert run.counters is not None
    assert run.counters.totals().barriers == 5 * 17


DIVERGED_SHUFFLES = """
extern "C" __global__ void sums(int* out) {
  int t = threadIdx.x, lane = t % 32, sum = 0;
  for (int i = 0; i < t % 7; ++i) sum += i;      // threads come one after the other
  if (lane < 16) {
    sum += __shfl_xor_sync(0x0000ffffu, lane, 1);
  } else {
    sum += __shfl_xor_sync(0xffff0000u, 2 * lane, 2);
  }
  sum += 1000 * __popc(__ballot_sync(0xffffffffu, lane % 3 == 0));
  out[t] = sum;
}"""


def test_a_warp_gathers_at_its_collective_instructions() -> None:
    out = np.zeros(64, np.int32)
    emulate(ptx_of(DIVERGED_SHUFFLES), (1, 1, 1), (64, 1, 1), 0, [Unwritten(out)])
    for t in range(64):
        lane = t % 32
        moved = lane ^ 1 if lane < 16 else 2 * (lane ^ 2)
        assert out[t] == sum(range(t % 7)) + moved + 11_000


SOME_WARPS_PART = """
extern "C" __global__ void meet(int* out) {
  int t = threadIdx.x, lane = t % 32, warp = t / 32, sum = 0;
  // The lanes of odd warps come to the ballot at different times, those of even warps together.
  if (warp % 2) {
    for (int i = 0; i < lane % 5; ++i) sum += out[t] + i;
  }
  unsigned even = __ballot_sync(0xffffffffu, (lane + sum) % 2 == 0);
  sum += 100 * __popc(even);
  if (lane >= 3 * warp) {
    sum += 10000 * __shfl_down_sync(0xffffffffu << (3 * warp), lane, 1);
  }
  out[t] = sum;
}"""


def test_some_warps_part_and_others_do_not() -> None:
    out = np.zeros(5 * 32, np.int32)
    emulate(ptx_of(SOME_WARPS_PART), (1, 1, 1), (160, 1, 1), 0, [out])
    for warp in range(5):
        sums = [sum(range(lane % 5)) if warp % 2 else 0 for lane in range(32)]
        even = sum((lane + sums[lane]) % 2 == 0 for lane in range(32))
        for lane in range(32):
            want = sums[lane] + 100 * even
            if lane >= 3 * warp:
                want += 10000 * min(lane + 1, 31)
            assert out[32 * warp + lane] == want


NAMED = """
extern "C" __global__ void pipeline(int* out) {   // warp 0 makes, warp 1 takes
  __shared__ int box[32];
  int lane = threadIdx.x % 32;
  if (threadIdx.x < 32) {
    for (int i = 0; i < 5; ++i) {
      box[lane] = i * 100 + lane;
      asm volatile("bar.arrive 1, 64;" ::: "memory");
      asm volatile("bar.sync 2, 64;" ::: "memory");
    }
  } else {
    int sum = 0;
    for (int i = 0; i < 5; ++i) {
      asm volatile("bar.sync 1, 64;" ::: "memory");
      sum += box[31 - lane];
      asm volatile("bar.arrive 2, 64;" ::: "memory");
    }
    out[lane] = sum;
  }
}"""


def test_named_barriers_with_counts() -> None:
    out = np.zeros(32, np.int32)
    emulate(ptx_of(NAMED), (1, 1, 1), (64, 1, 1), 0, [Unwritten(out)])
    assert out.tolist() == [1000 + 5 * (31 - lane) for lane in range(32)]


COUNTING = """
extern "C" __global__ void count(int* out) {
  int t = threadIdx.x;
  out[t] = __syncthreads_count(t % 3 == 0) * 4 + __syncthreads_and(t < 100) * 2
         + __syncthreads_or(t == 50);
}"""


def test_barriers_that_reduce() -> None:
    out = np.zeros(96, np.int32)
    emulate(ptx_of(COUNTING), (1, 1, 1), (96, 1, 1), 0, [Unwritten(out)])
    assert set(out.tolist()) == {32 * 4 + 2 + 1}


TURNSTILE = """
extern "C" __global__ void in_turn(volatile int* turn, int* order, int last_first) {
  int me = last_first ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  if (threadIdx.x == 0) {
    while (*turn != me) {}
    __threadfence();
  }
  __syncthreads();
  order[me * 32 + threadIdx.x] = me == 0 ? threadIdx.x : order[me * 32 - 32 + threadIdx.x] + 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *turn = me + 1;
}"""


@pytest.mark.parametrize("last_first", [0, 1])
@pytest.mark.parametrize("cohort_lanes", [32, 96, 4096])
def test_ctas_wait_for_each_other(last_first: int, cohort_lanes: int) -> None:
    turn, order = np.zeros(1, np.int32), np.zeros((8, 32), np.int32)
    emulate(
        ptx_of(TURNSTILE), (8, 1, 1), (32, 1, 1), 0,
        [turn, Unwritten(order), np.int32(last_first)], cohort_lanes=cohort_lanes,
    )  # fmt: skip
    assert turn[0] == 8
    assert (order == np.arange(8)[:, None] + np.arange(32)).all()


def test_ctas_that_wait_for_one_that_never_comes_are_a_deadlock() -> None:
    turn, order = np.array([5], np.int32), np.zeros((4, 32), np.int32)
    with pytest.raises(EmulationFault, match=r"deadlock at PTX line .*polls memory") as caught:
        emulate(
            ptx_of(TURNSTILE), (4, 1, 1), (32, 1, 1), 0, [turn, order, np.int32(0)],
            cohort_lanes=64,
        )  # fmt: skip
    assert caught.value.kind is FaultKind.DEADLOCK


LOCK = """
extern "C" __global__ void add(int* lock, volatile int* sum) {
  for (int i = 0; i < 3; ++i) {
    if (threadIdx.x == 0) {
      while (atomicCAS(lock, 0, 1) != 0) {}
      __threadfence();
      *sum = *sum + 1;
      __threadfence();
      atomicExch(lock, 0);
    }
    __syncthreads();
  }
}"""


@pytest.mark.parametrize("cohort_lanes", [64, 4096])
def test_a_spin_lock(cohort_lanes: int) -> None:
    lock, total = np.zeros(1, np.int32), np.zeros(1, np.int32)
    emulate(ptx_of(LOCK), (6, 1, 1), (64, 1, 1), 0, [lock, total], cohort_lanes=cohort_lanes)
    assert (lock[0], total[0]) == (0, 18)


POLITE = """
extern "C" __global__ void read_often(volatile int* in, int* out) {
  int sum = 0;
  for (int i = 0; i < 50; ++i) sum += in[threadIdx.x];
  out[threadIdx.x] = sum;
}"""


def test_a_loop_that_reads_volatile_memory_is_no_deadlock() -> None:
    values, out = np.arange(32, dtype=np.int32), np.zeros(32, np.int32)
    emulate(ptx_of(POLITE), (1, 1, 1), (32, 1, 1), 0, [values, Unwritten(out)])
    assert (out == 50 * values).all()


ENDLESS = """
extern "C" __global__ void endless(int* out, int step) {
  int x = 1;
  while (x != 0) x += 2 * step;
  out[0] = x;
}"""


def test_a_loop_without_end_is_stopped_and_its_line_told() -> None:
    with pytest.raises(
        EmulationFault, match=r"instruction budget at PTX line .* 10,000 "
    ) as caught:
        emulate(
            ptx_of(ENDLESS), (1, 1, 1), (1, 1, 1), 0, [np.zeros(1, np.int32), np.int32(1)],
            budget=10_000,
        )  # fmt: skip
    assert caught.value.kind is FaultKind.BUDGET


ONE_SIDED = """
extern "C" __global__ void one_sided(int* out, int limit) {
  if (threadIdx.x < limit) __syncthreads();
  out[threadIdx.x] = limit;
}"""


@pytest.mark.parametrize("limit", [7, 32, 63])
def test_a_barrier_that_some_threads_miss(limit: int) -> None:
    with pytest.raises(EmulationFault, match="barrier divergence at PTX line") as caught:
        emulate(
            ptx_of(ONE_SIDED), (1, 1, 1), (64, 1, 1), 0, [np.zeros(64, np.int32), np.int32(limit)]
        )
    assert caught.value.kind is FaultKind.BARRIER


TWO_BARRIERS = """
extern "C" __global__ void torn(int* out) {
  if (threadIdx.x % 2) { __syncthreads(); out[threadIdx.x] = 1; }
  else { out[threadIdx.x] = 2; __syncthreads(); }
}"""


def test_two_barriers_for_the_halves_of_a_warp() -> None:
    with pytest.raises(EmulationFault, match="different barrier instructions"):
        emulate(ptx_of(TWO_BARRIERS), (1, 1, 1), (64, 1, 1), 0, [np.zeros(64, np.int32)])


def test_a_trap_is_a_fault_of_the_first_thread_there() -> None:
    source = """extern "C" __global__ void check(int x) { if (threadIdx.x + x == 40) __trap(); }"""
    with pytest.raises(EmulationFault, match=r"thread \(9,0,0\) of CTA \(0,0,0\) came to a trap"):
        emulate(ptx_of(source), (1, 1, 1), (64, 1, 1), 0, [np.int32(31)])


def test_ptx_the_emulator_does_not_know() -> None:
    ptx = ptx_of(ENDLESS)
    with pytest.raises(PtxError, match=r"line .*'add.mystery.s32'"):
        emulate(ptx.replace("add.s32", "add.mystery.s32"), (1, 1, 1), (1, 1, 1), 0, [None, 1])
    with pytest.raises(UserError, match="not among"):
        emulate(ptx, (1, 1, 1), (1, 1, 1), 0, [None, 1], entry="other")
    source = """extern "C" __global__ void say() { printf("%d", threadIdx.x); }"""
    with pytest.raises(PtxError, match="functions must be inlined"):
        emulate(ptx_of(source), (1, 1, 1), (1, 1, 1), 0, [])
