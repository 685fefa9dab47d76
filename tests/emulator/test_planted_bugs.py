"""Bugs planted into the grouped GEMM's headers: each is found, and told where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search_spaces import GroupedGemmConfig
from tests.emulator.planted import PROBLEM, ROWS, Edit, emulated, fault
from tuner.emulator import FaultKind
from tuning_db.records import TrialStatus

MAINLOOP, STAGED, FRAGMENT = "grouped_gemm_sm75.cuh", "staged_tile.cuh", "fragment.cuh"
EPILOGUE, REDUCTION, EXPERTS = "epilogue.cuh", "reduction.cuh", "expert_tile.cuh"

RING = GroupedGemmConfig.parse("32x64x32_w2x2x1_s3_sw2.3.3_f32_r1x8_mn_ca_o1_g8_k1")
RING_AHEAD = GroupedGemmConfig.parse("32x64x32_w2x2x1_s3_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1")
SINGLE = GroupedGemmConfig.parse("32x64x32_w2x2x1_s1_sw2.3.3_f32_r1x8_mn_ca_o1_g8_k1")
SWAPPED = GroupedGemmConfig.parse("32x64x32_w1x4x1_s3_sw2.3.3_f32_r2x8_nm_ca_o1_g8_k1")
SPLIT = GroupedGemmConfig.parse("32x32x32_w2x1x2_s2_sw2.3.3_f32_r1x8_mn_ca_o1_g8_k2")
CONFIGS = (RING, RING_AHEAD, SINGLE, SWAPPED, SPLIT)

LDMATRIX, STORE, LOAD = "ldmatrix.sync", "st.shared", "ld.shared"
READ_TOO_EARLY, WRITTEN_TOO_EARLY = (LDMATRIX, STORE), (STORE, LDMATRIX)
# (config, where the barrier is removed, the racing instructions: the later one first)
BARRIERS = {
    "end of a k-tile": (
        RING,
        Edit(MAINLOOP, "if constexpr (V::kFragments == 1) __syncthreads();", ""),
        WRITTEN_TOO_EARLY,
    ),
    "before the last step": (
        RING_AHEAD,
        Edit(MAINLOOP, "__syncthreads();\n            load(read, 0);", "load(read, 0);"),
        WRITTEN_TOO_EARLY,
    ),
    "after the prologue": (
        RING,
        Edit(MAINLOOP, "fetch(kAhead < tiles);\n    __syncthreads();", "fetch(kAhead < tiles);"),
        READ_TOO_EARLY,
    ),
    "single stage, stored": (
        SINGLE,
        Edit(MAINLOOP, "store(0);\n      __syncthreads();", "store(0);"),
        READ_TOO_EARLY,
    ),
    "single stage, multiplied": (
        SINGLE,
        Edit(MAINLOOP, "step, tile);\n      }\n      __syncthreads();", "step, tile);\n      }"),
        WRITTEN_TOO_EARLY,
    ),
    "before the transpose": (
        SWAPPED,
        Edit(MAINLOOP, "__syncthreads();\n    if (threadIdx.x", "if (threadIdx.x"),
        WRITTEN_TOO_EARLY,
    ),
    "of a warp, in the transpose": (
        SWAPPED,
        Edit(EPILOGUE, "__syncwarp();", ""),
        READ_TOO_EARLY,
    ),
    "sum over warps": (
        SPLIT,
        Edit(REDUCTION, "__syncthreads();\n    if (slice == 0)", "if (slice == 0)"),
        (LOAD, STORE),
    ),
    "who comes last": (
        SPLIT,
        Edit(REDUCTION, "atomicAdd(counter, 1);\n  __syncthreads();", "atomicAdd(counter, 1);"),
        (STORE, LOAD),
    ),
}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_headers_as_they_are_pass(config: GroupedGemmConfig, tmp_path: Path) -> None:
    found, _ = emulated(config, tmp_path)
    assert found.ok, found.reason


@pytest.mark.parametrize("where", BARRIERS)
def test_a_removed_syncthreads(where: str, tmp_path: Path) -> None:
    """A race of two threads, both of them and both instructions told."""
    config, edit, (later, earlier) = BARRIERS[where]
    found = fault(config, tmp_path, edit)
    assert found.kind is FaultKind.SHARED_RACE
    assert later in found.line and earlier in found.other
    assert "of shared memory, which thread (" in found.what


def test_a_tail_predicate_off_by_one_row_of_a(tmp_path: Path) -> None:
    """Row 9 of a tile of 9 rows, 4 threads a row: the first thread there reads beyond A."""
    found = fault(RING, tmp_path, Edit(STAGED, "kPassRows < rows", "kPassRows <= rows"))
    assert (found.kind, found.thread, found.cta) == (FaultKind.OUT_OF_BOUNDS, 36, "2,0")
    assert "ld.global.ca.v4" in found.line
    assert "param_0' of 24288 bytes" in found.what and "16 bytes beyond" in found.what


def test_a_tail_predicate_off_by_one_along_k(tmp_path: Path) -> None:
    """Beyond K=264 there is the next row, but none behind the last of A: its fifth k-chunk."""
    found = fault(RING, tmp_path, Edit(STAGED, "column < V::kK;", "column <= V::kK;"))
    assert (found.kind, found.thread, found.cta) == (FaultKind.OUT_OF_BOUNDS, 33, "2,0")
    assert "ld.global.ca.v4" in found.line and "param_0' of 24288 bytes" in found.what


@pytest.mark.parametrize(
    ("config", "old", "new", "thread", "ctas", "offset"),
    [
        # row 5 of expert 1's second tile is row 0 of expert 3, which CTA 2 writes
        (RING, "if (m >= rows)", "if (m > rows)", 20, ("1,0", "2,0"), 37 * 144),
        (SWAPPED, "if (m < rows", "if (m <= rows", 20, ("1,0", "2,0"), 37 * 144),
        # column 72 of row 0 is column 0 of row 1
        (RING, "column + 8 * y < columns", "column + 8 * y <= columns", 0, ("5,0", "0,0"), 144),
        (SWAPPED, "n < columns", "n <= columns", 0, ("5,0", "0,0"), 144),
    ],
    ids=["rows", "rows, swapped", "columns", "columns, swapped"],
)
def test_a_tail_predicate_off_by_one_in_the_epilogue(
    config: GroupedGemmConfig,
    old: str,
    new: str,
    thread: int,
    ctas: tuple[str, str],
    offset: int,
    tmp_path: Path,
) -> None:
    """What lies behind the tile belongs to another CTA's: they race for it."""
    found = fault(config, tmp_path, Edit(EPILOGUE, old, new))
    assert (found.kind, found.thread, found.cta) == (FaultKind.GLOBAL_RACE, thread, ctas[0])
    assert "st.global" in found.line and "st.global" in found.other
    assert f"at offset {offset} of buffer" in found.what and "param_2'" in found.what
    assert f"which CTA ({ctas[1]},0) writes" in found.what


def test_an_uninitialised_shared_stage(tmp_path: Path) -> None:
    """The prologue leaves out the first stage."""
    old = "meanwhile();\n      store(write);"
    edit = Edit(MAINLOOP, old, old.replace("store", "if (tile) store"))
    found = fault(RING, tmp_path, edit)
    assert (found.kind, found.thread, found.cta) == (FaultKind.UNWRITTEN, 0, "0,0")
    assert LDMATRIX in found.line and "at 0x0 of shared memory" in found.what


def test_a_swizzle_that_stores_leave_out(tmp_path: Path) -> None:
    """All accesses stay inside the tile: only the numbers tell."""
    edit = Edit(MAINLOOP, "typename V::Swz{}(typename V::Copy{}", "(typename V::Copy{}")
    found, _ = emulated(RING, tmp_path, edit)
    assert found.status is TrialStatus.WRONG_RESULT
    assert "elements are wrong, the worst C[" in str(found.reason)


def test_a_swizzle_that_loads_leave_out(tmp_path: Path) -> None:
    """The k offset is added instead of XORed: rows at the end of the ring reach beyond it."""
    found = fault(RING, tmp_path, Edit(FRAGMENT, "base ^ typename V::Swz{}(k)", "base + k"))
    assert found.kind is FaultKind.OUT_OF_BOUNDS
    assert LDMATRIX in found.line and "beyond the CTA's 18432 bytes of shared memory" in found.what


def test_a_wrong_expert_offset_beyond_the_last_expert(tmp_path: Path) -> None:
    edit = Edit(MAINLOOP, "size_t(tile.expert) * V::kN", "size_t(tile.expert + 1) * V::kN")
    found = fault(RING, tmp_path, edit)
    assert (found.kind, found.thread, found.cta) == (FaultKind.OUT_OF_BOUNDS, 0, "2,0")
    size = PROBLEM.experts * PROBLEM.expert_bytes
    assert "ld.global.ca.v4" in found.line and f"param_1' of {size} bytes" in found.what


def test_a_wrong_expert_that_exists(tmp_path: Path) -> None:
    """Expert 3's rows meet expert 1's weights: wrong are the rows from 37 on."""
    edit = Edit(MAINLOOP, "size_t(tile.expert) * V::kN", "size_t(tile.expert & 1) * V::kN")
    found, _ = emulated(RING, tmp_path, edit)
    assert found.status is TrialStatus.WRONG_RESULT
    worst = re.search(r"the worst C\[(\d+), ", str(found.reason))
    assert worst is not None and 37 <= int(worst[1]) < sum(ROWS)


def test_a_wrong_first_row_of_an_expert(tmp_path: Path) -> None:
    edit = Edit(EXPERTS, "(tile - (before + upto - tiles))", "(tile - before)")
    found, _ = emulated(RING, tmp_path, edit)
    assert found.status is TrialStatus.WRONG_RESULT
    assert found.reason == "C[37, 0] was never written"


def test_a_ring_that_wraps_one_stage_late(tmp_path: Path) -> None:
    edit = Edit(MAINLOOP, "stage == (V::kStages - 1) * kStage", "stage == V::kStages * kStage")
    found = fault(RING, tmp_path, edit)
    assert (found.kind, found.thread, found.cta) == (FaultKind.OUT_OF_BOUNDS, 0, "0,0")
    assert STORE in found.line and "beyond the CTA's 18432 bytes of shared memory" in found.what


@pytest.mark.parametrize("config", [RING, RING_AHEAD], ids=str)
def test_a_double_buffer_that_is_filled_one_tile_too_early(
    config: GroupedGemmConfig, tmp_path: Path
) -> None:
    """The stage written is the one that other warps still read."""
    edit = Edit(MAINLOOP, "kAhead = V::kStages - 1;", "kAhead = V::kStages;")
    found = fault(config, tmp_path, edit)
    assert (found.kind, found.cta) == (FaultKind.SHARED_RACE, "0,0")
    assert STORE in found.line and LDMATRIX in found.other


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("__threadfence();\n  __syncthreads();", "__syncthreads();"),
        ("return false;\n  __threadfence();", "return false;"),
    ],
    ids=["release", "acquire"],
)
def test_a_removed_threadfence(old: str, new: str, tmp_path: Path) -> None:
    """The last CTA adds up sums of another without an order between them."""
    found = fault(SPLIT, tmp_path, Edit(REDUCTION, old, new))
    assert (found.kind, found.cta) == (FaultKind.GLOBAL_RACE, "0,1")
    assert "ld.global.cg.f32" in found.line and "st.global.cg.f32" in found.other
    assert "param_7'" in found.what and "which CTA (0,0,0) writes" in found.what


def test_a_counter_that_is_left_for_the_next_launch(tmp_path: Path) -> None:
    edit = Edit(REDUCTION, "if (threadIdx.x == 0) *counter = 0;", "")
    found, _ = emulated(SPLIT, tmp_path, edit)
    assert found.status is TrialStatus.WRONG_RESULT
    assert found.reason == "counters are not zero after the launch"
