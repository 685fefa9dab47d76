"""Counters fed by hand, and what emulated kernels make of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tests.emulator.bench import entry_of
from tests.emulator.cuda import ptx_of
from tuner.emulator import emulate
from tuner.emulator.banks import SharedCounts
from tuner.emulator.counters import Counters
from tuner.emulator.counts import Totals
from tuner.emulator.patterns import CAPACITY, Patterns
from tuner.emulator.sectors import GlobalCounts, sector_use

BODY = """
    add.s32 %r1, %r2, %r3;
    @%p1 ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r1];
    mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32
        {%f0, %f1, %f2, %f3}, {%r1, %r2}, {%r3}, {%f0, %f1, %f2, %f3};
    mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r1,%r2},{%r3},{%r4},{%r1,%r2};
    { fma.rn.f32 %f1, %f2, %f3, %f4; add.f16x2 %r1, %r1, %r2; }
    bar.sync 0;
    st.global.u32 [%rd1], %r1;
"""
LANE = np.arange(64, dtype=np.uint64)


def counters() -> Counters:
    return Counters(entry_of(BODY).instructions)


def test_runs_overlap() -> None:
    found = counters()
    found.executed(0, 9, 4, 128)
    found.executed(2, 4, 1, 20)
    found.executed(2, 3, 1, 20)
    found.predicated_off(1, 28)
    found.divergent(0, 1)
    found.divergent(0, 3)
    found.barrier(6, 2)
    totals = found.totals()
    assert totals.instructions == 9 * 4 + 3
    assert totals.threads == 9 * 128 + 60
    assert totals.threads_on == 9 * 128 + 60 - 28
    assert totals.by_class == {
        "tensor": 11,
        "integer": 4,
        "load shared": 4,
        "float": 4,
        "half": 4,
        "barrier": 4,
        "store global": 4,
        "branch": 4,
    }
    assert totals.by_opcode["mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"] == 6
    assert totals.mma == 11
    assert totals.flops == 6 * 2 * 16 * 8 * 8 + 5 * 2 * 8 * 8 * 16
    assert (totals.divergent, totals.barriers) == (4, 2)


def test_accesses_go_by_kind_and_by_line() -> None:
    found = counters()
    load, store = found.instructions[1].line, found.instructions[7].line
    found.shared(load, "load", LANE * np.uint64(128), None, 16)
    found.shared(load, "load", LANE * np.uint64(16), LANE < 32, 16)
    found.shared(load, "atomic", LANE * np.uint64(0), LANE < 8, 4)
    found.globals(store, "store", LANE * np.uint64(4), None, 4)
    totals = found.totals()
    assert totals.shared == {
        "load": SharedCounts(3, 64 + 4, 12, 64 * 16 + 32 * 16),
        "atomic": SharedCounts(1, 8, 1, 32),
    }
    assert totals.globals == {"store": GlobalCounts(2, 8, 8, 256)}
    lines = {counts.line: counts for counts in found.by_line()}
    assert lines[load].shared == SharedCounts(4, 76, 13, 64 * 16 + 32 * 16 + 32)
    assert lines[load].globals == GlobalCounts()
    assert lines[store].globals == GlobalCounts(2, 8, 8, 256)
    assert lines[load].text.startswith("@%p1 ld.shared.v4.u32")


def test_statements_on_one_line_are_counted_together() -> None:
    found = counters()
    found.executed(0, 9, 2, 64)
    found.predicated_off(4, 10)
    lines = [counts for counts in found.by_line() if "fma" in counts.text]
    assert [(line.warps, line.threads, line.threads_on) for line in lines] == [(4, 128, 118)]
    assert "; add.f16x2" in lines[0].text
    assert [counts.line for counts in found.by_line()] == sorted(
        {instruction.line for instruction in found.instructions}
    )


def feed(found: Counters, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        start, end = sorted(rng.integers(0, 10, 2))
        found.executed(int(start), int(end), int(rng.integers(1, 9)), int(rng.integers(1, 99)))
        found.predicated_off(int(rng.integers(0, 9)), int(rng.integers(0, 9)))
        found.divergent(int(rng.integers(0, 9)), 2)
        found.barrier(int(rng.integers(0, 9)), 3)
        address = rng.integers(0, 999, 64).astype(np.uint64) * np.uint64(8)
        mask = rng.random(64) < 0.7
        found.shared(int(rng.integers(1, 4)), ["load", "store"][seed % 2], address, mask, 8)
        found.globals(int(rng.integers(1, 4)), "load", address, mask, 8)


def test_processes_add_up() -> None:
    """Counting here and there and merging is counting all in one place; pickled on the way."""
    together, first, second = counters(), counters(), counters()
    for found in (together, first):
        feed(found, 1)
    for found in (together, second):
        feed(found, 2)
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.totals() == together.totals()
    assert first.by_line() == together.by_line()
    first.shared(1, "load", LANE * np.uint64(4), None, 4)  # and goes on counting


def test_two_programs_do_not_merge() -> None:
    with pytest.raises(ValueError, match="two programs"):
        counters().merge(Counters(entry_of("add.s32 %r1, %r2, %r3;").instructions))


def test_remembered_patterns_cost_what_they_cost() -> None:
    rng = np.random.default_rng(0)
    patterns = Patterns(sector_use)
    shapes = [rng.integers(0, 999, 64).astype(np.uint64) * np.uint64(4) for _ in range(9)]
    for trial in range(CAPACITY + 300):
        shape = shapes[trial % 9] if trial < 300 else shapes[0] * np.uint64(trial)
        address = shape + np.uint64(int(rng.integers(0, 99)) * 4)
        mask = None if trial % 3 == 0 else rng.random(64) < 0.5
        if mask is not None and not mask.any():
            continue
        if mask is not None:
            address[~mask] = rng.integers(0, 1 << 63)
        assert patterns.cost(address, mask, 4) == sector_use(address, mask, 4)


def run(source: str, grid: int, block: int, *args: object) -> Totals:
    done = emulate(ptx_of(source), (grid, 1, 1), (block, 1, 1), 0, args)
    assert done.counters is not None
    totals = done.counters.totals()
    assert totals.instructions == done.warp_instructions
    assert totals.threads == done.thread_instructions
    return totals


TRANSPOSE = """
extern "C" __global__ void k(const float* in, float* out) {
    __shared__ float tile[32][WIDTH];
    int x = threadIdx.x % 32;
    out += blockIdx.x * 1024;
    for (int y = threadIdx.x / 32; y < 32; y += 4) tile[y][x] = in[y * 32 + x];
    __syncthreads();
    for (int y = threadIdx.x / 32; y < 32; y += 4) out[y * 32 + x] = tile[x][y];
}
"""


@pytest.mark.parametrize(("width", "conflicts"), [(32, 31), (33, 0), (34, 1), (36, 3)])
def test_a_padded_transpose_loses_its_conflicts(width: int, conflicts: int) -> None:
    """The schoolbook example: a column of a row-major tile lies in one bank unless it is padded."""
    given = np.arange(1024, dtype=np.float32)
    result = np.zeros((2, 32, 32), np.float32)
    totals = run(TRANSPOSE.replace("WIDTH", str(width)), 2, 128, given, result)
    assert (result == given.reshape(32, 32).T).all()
    rows = 2 * 32  # of two CTAs, each a warp's request
    assert totals.shared["load"] == SharedCounts(rows, rows * (1 + conflicts), rows, rows * 128)
    assert totals.shared["load"].conflicts == rows * conflicts
    assert totals.shared["store"] == SharedCounts(rows, rows, rows, rows * 128)
    assert totals.globals["load"] == GlobalCounts(rows, 4 * rows, 4 * rows, rows * 128)
    assert totals.barriers == 2


DIVERGE = """
extern "C" __global__ void k(int* out, int split) {
    int x = out[threadIdx.x * 8];
    if ((int)threadIdx.x % 32 < split) {
        for (int i = 0; i < x; ++i) x += atomicAdd(out + 1000 + threadIdx.x, i) & 1;
    }
    out[threadIdx.x * 8] = x;
}
"""


@pytest.mark.parametrize(("split", "divergent"), [(0, 0), (7, 2), (32, 0)])
def test_branches_that_split_a_warp_are_counted(split: int, divergent: int) -> None:
    values = np.zeros(2048, np.int32)
    values[: 64 * 8 : 8] = 1
    totals = run(DIVERGE, 1, 64, values, split)
    assert totals.divergent == divergent
    assert totals.globals["load"] == GlobalCounts(2, 64, 8, 256)


MATRICES = """
#include <cuda_fp16.h>
extern "C" __global__ void k(const __half* a, const __half* b, float* c) {
    __shared__ alignas(16) __half tile[24 * ROW];
    int lane = threadIdx.x % 32;
    for (int i = lane; i < 24 * 8; i += 32)
        tile[i / 8 * ROW + i % 8] = i < 128 ? a[i] : b[i - 128];
    __syncwarp();
    unsigned at = __cvta_generic_to_shared(tile + lane % 24 * ROW);
    unsigned x[2], y;
    float d[4] = {0, 0, 0, 0};
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(x[0]), "=r"(x[1]) : "r"(at));
    at = __cvta_generic_to_shared(tile + (16 + lane % 8) * ROW);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(y) : "r"(at));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(x[0]), "r"(x[1]), "r"(y));
    for (int i = 0; i < 4; ++i)
        c[blockIdx.x * 128 + (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
"""


@pytest.mark.parametrize(("row", "conflicts"), [(8, 0), (16, 1), (64, 7), (72, 0)])
def test_matrices_from_shared_memory(row: int, conflicts: int) -> None:
    """A 16x8 times 8x8 product; rows of 128 bytes have all chunks of a column in one place."""
    rng = np.random.default_rng(row)
    a, b = (rng.standard_normal((n, 8)).astype(np.float16) for n in (16, 8))
    c = np.zeros((3, 16, 8), np.float32)
    totals = run(MATRICES.replace("ROW", str(row)), 3, 32, a, b, c)
    exact = a.astype(np.float64) @ b.astype(np.float64).T
    assert abs(c - exact).max() < 1e-5
    assert (totals.mma, totals.flops) == (3, 3 * 2048)
    phases = 3 * 3  # of three CTAs, two matrices and one
    expected = SharedCounts(6, phases * (1 + conflicts), phases, 16 * 8 * phases)
    assert totals.shared["matrix"] == expected
