"""Bugs planted into permute.cuh: a missing barrier is a race, what is off by one shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator.permute_kernels import HeaderKernel
from tests.emulator.planted import Edit
from tests.permutation_oracle import sorted_slots
from tuner.emulator import EmulationFault, FaultKind

HEADER = "permute.cuh"
IDS = [slot * slot % 5 for slot in range(300)]
EXPERTS, PER_TOKEN = 5, 2
PASSES, ALONE = HeaderKernel(64, 64, False), HeaderKernel(64, 64, True)
ONE_CHUNK = HeaderKernel(64, 512, True)

# kernel, what is removed, and what stands in its place
BARRIERS = {
    "histogram cleared": (
        PASSES,
        "shared[i] = 0;\n  __syncthreads();\n  CUTE_UNROLL",
        "shared[i] = 0;\n  CUTE_UNROLL",
    ),
    "histogram counted": (
        PASSES,
        "__syncthreads();\n  int* const histogram",
        "int* const histogram",
    ),
    "sums cleared": (PASSES, "  __syncthreads();\n  int const columns", "  int const columns"),
    "histograms summed": (
        PASSES,
        "sum_histograms(args, chunk, shared);\n  __syncthreads();",
        "sum_histograms(args, chunk, shared);",
    ),
    "sums of warps": (PASSES, "= upto;\n  __syncthreads();", "= upto;"),
    "totals read": (
        PASSES,
        "chunk == 0, shared);\n  __syncthreads();",
        "chunk == 0, shared);",
    ),
    "counters of a warp cleared": (
        PASSES,
        "pairs[i] = 0;\n    __syncwarp();",
        "pairs[i] = 0;",
    ),
    "counters of a batch read": (
        PASSES,
        "__popc(same & lower);\n      __syncwarp();",
        "__popc(same & lower);",
    ),
    "counters of a batch written": (
        ONE_CHUNK,
        "before + __popc(same);\n      __syncwarp();",
        "before + __popc(same);",
    ),
    "slots ranked": (
        PASSES,
        "share.rank(shared);\n  __syncthreads();\n  add_chunk(shared);\n  __syncthreads();\n"
        "  share.write",
        "share.rank(shared);\n  add_chunk(shared);\n  __syncthreads();\n  share.write",
    ),
    "warps joined": (
        ALONE,
        "add_chunk(shared);\n  __syncthreads();\n  share.write",
        "add_chunk(shared);\n  share.write",
    ),
    "one chunk, ranked": (
        ONE_CHUNK,
        "share.rank(shared);\n  __syncthreads();\n  add_chunk(shared);\n  __syncthreads();\n"
        "  begin",
        "share.rank(shared);\n  add_chunk(shared);\n  __syncthreads();\n  begin",
    ),
    "one chunk, joined": (
        ONE_CHUNK,
        "add_chunk(shared);\n  __syncthreads();\n  begin",
        "add_chunk(shared);\n  begin",
    ),
    "one chunk, begun": (
        ONE_CHUNK,
        "shared.ends, true, shared);\n  __syncthreads();",
        "shared.ends, true, shared);",
    ),
    "alone, histograms summed": (
        ALONE,
        "sum_histograms(args, 0, shared);\n  __syncthreads();",
        "sum_histograms(args, 0, shared);",
    ),
    "alone, totals read": (
        ALONE,
        "shared.totals, true, shared);\n  __syncthreads();",
        "shared.totals, true, shared);",
    ),
    "alone, the next chunk": (ALONE, "    __syncwarp();  // its counters", "    // its counters"),
}


@pytest.mark.parametrize("kernel", [PASSES, ALONE, ONE_CHUNK], ids=str)
def test_the_header_as_it_is_passes(kernel: HeaderKernel) -> None:
    assert kernel.sort(IDS, EXPERTS, PER_TOKEN) == sorted_slots(IDS, EXPERTS, PER_TOKEN)


@pytest.mark.parametrize("where", BARRIERS)
def test_a_removed_barrier_is_a_race(where: str, tmp_path: Path) -> None:
    kernel, old, new = BARRIERS[where]
    ptx = kernel.planted(Edit(HEADER, old, new), tmp_path)
    with pytest.raises(EmulationFault) as caught:
        kernel.sort(IDS, EXPERTS, PER_TOKEN, ptx)
    assert caught.value.kind in (FaultKind.SHARED_RACE, FaultKind.UNWRITTEN)


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        (PASSES, "<< threadIdx.x % 32) - 1;", "<< threadIdx.x % 32);"),
        (PASSES, "before[j] += i < chunk", "before[j] += i <= chunk"),
        (PASSES, "warp = shared.kWarps - 1; warp >= 0", "warp = shared.kWarps - 1; warp > 0"),
        (ONE_CHUNK, "threadIdx.x / 32 * batches * 32", "threadIdx.x / 32 * 32"),
    ],
    ids=["a lane is below itself", "a chunk before itself", "a warp left out", "shares overlap"],
)
def test_a_wrong_rank_is_a_wrong_order(
    kernel: HeaderKernel, old: str, new: str, tmp_path: Path
) -> None:
    """Or a row that does not exist, or one that two CTAs write."""
    ptx = kernel.planted(Edit(HEADER, old, new), tmp_path)
    try:
        found = kernel.sort(IDS, EXPERTS, PER_TOKEN, ptx)
    except EmulationFault:
        return
    assert found != sorted_slots(IDS, EXPERTS, PER_TOKEN)
