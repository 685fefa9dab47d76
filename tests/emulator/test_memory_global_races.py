"""Races between CTAs on global memory, and what orders them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind, Unwritten, emulate

# Two splits of 64 numbers, summed by the CTA that comes last: as templates' reduce_splits does it.
SPLIT = """
extern "C" __global__ void split_sum(float const* in, float* work, int* counters, float* out) {
  __shared__ int flag;
  int const splits = gridDim.y, tile = blockIdx.x;
  float* first = work + tile * splits * 64 + threadIdx.x;
  __stcg(first + blockIdx.y * 64, 2 * in[(tile * splits + blockIdx.y) * 64 + threadIdx.x]);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) flag = atomicAdd(counters + tile, 1);
  __syncthreads();
  if (flag != splits - 1) return;
  __threadfence();  // 2
  if (threadIdx.x == 0) counters[tile] = 0;
  float sum = 0;
  for (int split = 0; split < splits; ++split) sum += __ldcg(first + split * 64);
  out[tile * 64 + threadIdx.x] = sum;
}"""


def split_sum(source: str, cohort_lanes: int = 2048) -> None:
    tiles, splits = 5, 3
    values = np.random.default_rng(1).standard_normal((tiles, splits, 64)).astype(np.float32)
    work, counters = np.zeros_like(values), np.zeros(tiles, np.int32)
    out = np.zeros((tiles, 64), np.float32)
    emulate(
        ptx_of(source), (tiles, splits, 1), (64, 1, 1), 0,
        [values, Unwritten(work), counters, Unwritten(out)], cohort_lanes=cohort_lanes,
    )  # fmt: skip
    assert not counters.any()
    np.testing.assert_allclose(out, 2 * values.sum(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cohort_lanes", [64, 192, 2048])
def test_split_k_is_no_race(cohort_lanes: int) -> None:
    split_sum(SPLIT, cohort_lanes)


@pytest.mark.parametrize("cohort_lanes", [64, 192, 2048])
@pytest.mark.parametrize(
    "fence", ["  __threadfence();\n  __sync", "  __threadfence();  // 2\n"], ids=["before", "after"]
)
def test_split_k_without_a_fence(fence: str, cohort_lanes: int) -> None:
    assert SPLIT.count(fence) == 1
    broken = SPLIT.replace(fence, "  __sync" if "__sync" in fence else "")
    with pytest.raises(EmulationFault) as raised:
        split_sum(broken, cohort_lanes)
    assert raised.value.kind is FaultKind.GLOBAL_RACE
    assert "buffer" in str(raised.value) and "writes at PTX line" in str(raised.value)


def test_split_k_with_a_fence_of_the_cta_only() -> None:
    with pytest.raises(EmulationFault, match="race on global memory"):
        split_sum(SPLIT.replace("__threadfence()", "__threadfence_block()"))


CTA0, CTA1 = "setp.eq.u32 %p1, %r1, 0; @!%p1 bra ONE;", "bra END; ONE:"
WAIT = """W: ld{order}.global.u32 %r2, [%rd1]; setp.eq.u32 %p2, %r2, 0; @%p2 bra W;"""
# %rd0: data, %rd1: flag. CTA 0 writes data and sets the flag, CTA 1 waits for it and reads.
PASS = "st.global.u32 [%rd0], 5; {before} st{store}.global.u32 [%rd1], 1;"
TAKE = WAIT.replace("{order}", "{load}") + "{after} ld.global.u32 %r3, [%rd0];"
MESSAGE = f"{CTA0} {PASS} {CTA1} {TAKE} st.global.u32 [%rd0+4], %r3; END:"


def send(before: str, store: str, load: str, after: str, cohort_lanes: int) -> list[int]:
    data, flag = np.zeros(2, np.int32), np.zeros(1, np.int32)
    body = MESSAGE.format(before=before, store=store, load=load, after=after)
    run(body, [Unwritten(data), flag], ctas=2, threads=1, cohort_lanes=cohort_lanes)
    return [int(value) for value in data]


@pytest.mark.parametrize("cohort_lanes", [32, 64])
@pytest.mark.parametrize(
    ("before", "store", "load", "after"),
    [
        ("membar.gl;", ".volatile", ".volatile", "membar.gl;"),
        ("membar.sys;", ".volatile", ".volatile", "membar.gl;"),
        ("fence.acq_rel.gpu;", ".relaxed.gpu", ".relaxed.gpu", "fence.sc.gpu;"),
        ("", ".release.gpu", ".acquire.gpu", ""),
        ("fence.acq_rel.sys;", ".relaxed.sys", ".acquire.sys", ""),
        ("", ".release.gpu", ".relaxed.gpu", "fence.acq_rel.gpu;"),
    ],
)
def test_a_message(before: str, store: str, load: str, after: str, cohort_lanes: int) -> None:
    assert send(before, store, load, after, cohort_lanes) == [5, 5]


@pytest.mark.parametrize("cohort_lanes", [32, 64])
@pytest.mark.parametrize(
    ("before", "store", "load", "after"),
    [
        ("", ".volatile", ".volatile", "membar.gl;"),
        ("membar.gl;", ".volatile", ".volatile", ""),
        ("membar.cta;", ".volatile", ".volatile", "membar.gl;"),
        ("", ".relaxed.gpu", ".acquire.gpu", ""),
        ("", ".release.gpu", ".relaxed.gpu", ""),
        ("", ".release.cta", ".acquire.gpu", ""),
        ("membar.gl;", "", ".volatile", "membar.gl;"),
    ],
)
def test_a_message_that_may_come_too_early(
    before: str, store: str, load: str, after: str, cohort_lanes: int
) -> None:
    with pytest.raises(EmulationFault) as raised:
        send(before, store, load, after, cohort_lanes)
    assert raised.value.kind is FaultKind.GLOBAL_RACE


def test_what_a_cta_knows_it_passes_on() -> None:
    """CTA 0 writes and tells 1, which tells 2, which reads what 0 wrote."""
    source = """
    extern "C" __global__ void chain(int* data, int volatile* turn) {
      if (blockIdx.x == 0) *data = 7;
      else { while (*turn != blockIdx.x) {} }
      __threadfence();
      if (blockIdx.x == 2) data[1] = data[0] + 1;
      TELL
    }"""
    data, turn = np.zeros(2, np.int32), np.zeros(1, np.int32)
    whole = source.replace("TELL", "*turn = blockIdx.x + 1;")
    emulate(ptx_of(whole), (3, 1, 1), (1, 1, 1), 0, [Unwritten(data), turn], cohort_lanes=32)
    assert data.tolist() == [7, 8] and turn.tolist() == [3]


def test_a_barrier_of_the_grid_between_reading_and_writing() -> None:
    """All CTAs read all numbers, meet, and then each replaces its own."""
    source = """
    extern "C" __global__ void step(int* numbers, int volatile* count) {
      int sum = 0;
      for (int i = 0; i < gridDim.x; ++i) sum += numbers[i];
      FENCE
      atomicAdd((int*)count, 1);
      while (*count != gridDim.x) {}
      FENCE
      numbers[blockIdx.x] = sum + blockIdx.x;
    }"""
    numbers, count = np.arange(4, dtype=np.int32), np.zeros(1, np.int32)
    whole = source.replace("FENCE", "__threadfence();")
    emulate(ptx_of(whole), (4, 1, 1), (1, 1, 1), 0, [numbers, count], cohort_lanes=64)
    assert numbers.tolist() == [6, 7, 8, 9]
    with pytest.raises(EmulationFault, match=r"and others reads? at PTX line"):
        count[:] = 0
        broken = ptx_of(source.replace("FENCE", ""))
        emulate(broken, (4, 1, 1), (1, 1, 1), 0, [numbers, count], cohort_lanes=64)


ELEMENT = """mul.wide.u32 %rd1, %r1, 4; add.s64 %rd1, %rd1, %rd0; add.s32 %r2, %r1, 1;
mul.wide.u32 %rd2, %r2, 4; add.s64 %rd2, %rd2, %rd0;
cvt.u64.u32 %rd3, %r1; add.s64 %rd3, %rd0, %rd3;
setp.eq.u32 %p1, %r1, 0; setp.eq.u32 %p2, %r1, 1; setp.eq.u32 %p3, %r1, 2;
setp.eq.u32 %p4, %r1, 3;"""


@pytest.mark.parametrize("cohort_lanes", [32, 2048])
@pytest.mark.parametrize(
    ("body", "quiet"),
    [
        ("st.global.u32 [%rd1], %r1; ld.global.u32 %r3, [%rd1];", True),
        ("st.global.u8 [%rd3], %r1; ld.global.u8 %r3, [%rd3];", True),
        ("ld.global.u32 %r3, [%rd0]; ld.global.u32 %r3, [%rd2];", True),
        ("red.global.add.u32 [%rd0], 1; atom.global.max.u32 %r3, [%rd0], %r1;", True),
        ("ld.volatile.global.u32 %r3, [%rd0]; ld.global.u32 %r3, [%rd0];", True),
        ("ld.global.u32 %r3, [%rd0]; ld.volatile.global.u32 %r3, [%rd0];", True),
        ("ld.volatile.global.u32 %r3, [%rd0]; @%p1 st.global.u32 [%rd0], 1;", False),
        ("@%p1 st.volatile.global.u32 [%rd0], 1; @%p2 ld.global.u32 %r3, [%rd0];", False),
        ("st.global.u32 [%rd0], 1;", False),
        ("st.global.u32 [%rd1], 1; ld.global.u32 %r3, [%rd2];", False),
        ("ld.global.u32 %r3, [%rd1]; st.global.u32 [%rd2], 1;", False),
        ("ld.global.u32 %r3, [%rd0]; @%p1 st.global.u32 [%rd0], 1;", False),
        ("ld.global.u32 %r3, [%rd0]; @%p3 st.global.u32 [%rd0], 1;", False),
        ("ld.global.u32 %r3, [%rd0]; @%p4 st.global.u32 [%rd0], 1;", False),
        ("@%p4 ld.global.u32 %r3, [%rd0]; @%p4 st.global.u32 [%rd0], 1;", True),
        ("red.global.add.u32 [%rd0], 1; @%p2 st.global.u32 [%rd0], 1;", False),
        ("red.global.add.u32 [%rd0], 1; @%p1 ld.global.u32 %r3, [%rd0];", False),
        ("red.global.cta.add.u32 [%rd0], 1;", False),
        ("@%p1 st.global.u32 [%rd0], 1; @%p2 red.global.add.u32 [%rd0], 1;", False),
        ("@%p2 ld.global.u32 %r3, [%rd0]; @%p1 red.global.add.u32 [%rd0], 1;", False),
        ("@%p1 st.global.u8 [%rd0+2], 1; @%p2 ld.global.u32 %r3, [%rd0];", False),
    ],
)  # fmt: skip
def test_without_any_fence(body: str, quiet: bool, cohort_lanes: int) -> None:
    def launch(checks: bool) -> None:
        run(ELEMENT + body, [np.zeros(5, np.int32)], ctas=4, threads=1, checks=checks,
            cohort_lanes=cohort_lanes)  # fmt: skip

    launch(checks=False)
    if quiet:
        launch(checks=True)
        return
    with pytest.raises(EmulationFault) as raised:
        launch(checks=True)
    assert raised.value.kind is FaultKind.GLOBAL_RACE
    assert "with no order between them" in str(raised.value)


def test_the_last_to_come_may_reset_the_counter() -> None:
    """It has seen the others' atomic accesses, so no fence is needed; anybody else has not."""
    source = """
    extern "C" __global__ void count(unsigned* counter) {
      if (atomicAdd(counter, 1) == LAST) *counter = 0;
    }"""
    counter = np.zeros(1, np.uint32)
    last = source.replace("LAST", "gridDim.x - 1")
    emulate(ptx_of(last), (40, 1, 1), (1, 1, 1), 0, [counter], cohort_lanes=1024)
    assert counter[0] == 0
    with pytest.raises(EmulationFault, match="race on global memory"):
        early = source.replace("LAST", "gridDim.x - 2")
        emulate(ptx_of(early), (40, 1, 1), (1, 1, 1), 0, [counter], cohort_lanes=1024)
