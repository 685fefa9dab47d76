"""Permutation kernels, emulated: the header's functions, and moe_permute as it is rendered."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.permutation import chunk_count, padded_experts, permute_smem_bytes
from search_spaces.permute_config import PermuteConfig
from search_spaces.permute_problem import PermuteProblem
from templates.moe_permute import launch_shape, render
from templates.toolchain import OWN_INCLUDE
from templates.variant import translation_unit
from tests.emulator.cuda import ptx_of
from tests.emulator.planted import Edit
from tests.permutation_oracle import POISON, Sorted
from tuner.emulator import Unwritten, emulate
from tuner.emulator.isa.values import Array

# Pass 0 counts, pass 1 places, pass 2 does both with one CTA.
HEADER_KERNEL = """
#include <light_moe/permute.cuh>
using namespace light_moe;
extern "C" __global__ void permute(int const* ids, int* offsets, int* rows, int* slots,
    int* inverse, int* histograms, int count, int per_token, int experts, int chunks, int pass) {
  extern __shared__ __align__(16) int shared[];
  constexpr int kThreads = %d, kChunk = %d;
  PermuteArgs const args{
      ids, offsets, rows, slots, inverse, histograms, count, per_token, experts, chunks};
  if (pass == 0) {
    count_chunk<kThreads, kChunk>(args, blockIdx.x, shared);
  } else if (pass == 1) {
    place_chunk<kThreads, kChunk>(args, blockIdx.x, shared);
  } else {
    for (int chunk = 0; chunk < chunks && chunks > 1; ++chunk) {
      count_chunk<kThreads, kChunk>(args, chunk, shared);
      __syncthreads();
    }
    permute_alone<kThreads, kChunk>(args, shared);
  }
}
"""


@dataclass(frozen=True)
class HeaderKernel:
    """permute.cuh with this many threads and slots a chunk; ``alone``: all by one CTA."""

    threads: int
    chunk: int
    alone: bool

    def sort(
        self, ids: Sequence[int], experts: int, per_token: int, ptx: str | None = None, **how: Any
    ) -> Sorted:
        """Runs it, or ``ptx`` in its place; ``how`` goes to the emulator."""
        chunks = chunk_count(len(ids), self.chunk)
        out = _poisoned(len(ids), experts)
        histograms = np.full(chunks * padded_experts(experts), POISON, np.int32)
        smem = permute_smem_bytes(experts, self.threads)
        scalars = (len(ids), per_token, experts, chunks)
        for number, grid in ((2, 1),) if self.alone else ((0, chunks), (1, chunks)):
            written = number == 1
            emulate(
                ptx or self.ptx(), (grid, 1, 1), (self.threads, 1, 1), smem,
                [_ints(ids), *map(Unwritten, out), histograms if written else Unwritten(histograms),
                 *map(np.int32, scalars), np.int32(number)],
                **how,
            )  # fmt: skip
        return _sorted(out, len(ids))

    def ptx(self, *options: str) -> str:
        return ptx_of(HEADER_KERNEL % (self.threads, self.chunk), options=options)

    def planted(self, edit: Edit, folder: Path) -> str:
        """The PTX with this edit made."""
        include = folder / "include"
        shutil.copytree(OWN_INCLUDE, include)
        path = include / "light_moe" / edit.header
        text = path.read_text()
        assert text.count(edit.old) == 1, f"{edit.header} holds {text.count(edit.old)} {edit.old!r}"
        path.write_text(text.replace(edit.old, edit.new))
        return self.ptx(f"-I{include}")


def run_op(
    problem: PermuteProblem,
    config: PermuteConfig,
    ids: Sequence[int],
    slot_map: Array | None = None,
    num_valid: int | None = None,
) -> Sorted:
    """moe_permute as rendered, all its passes."""
    variant = render(problem, config)
    ptx = ptx_of(translation_unit([variant]))
    shape = launch_shape(problem, config, len(ids) // problem.top_k)
    assert shape.counters == 0
    out = _poisoned(len(ids), problem.groups)
    workspace = np.full(shape.workspace_bytes // 4, POISON, np.int32)
    given = (slot_map, None if num_valid is None else _ints([num_valid]))
    for number, each in enumerate(shape.passes):
        assert each.smem_bytes <= variant.smem_bytes
        scratch = None if not len(workspace) else workspace if number else Unwritten(workspace)
        args = [_ints(ids), *given, *map(Unwritten, out), scratch, None, *each.scalars]
        emulate(ptx, each.grid, (variant.threads, 1, 1), each.smem_bytes, args)
    return _sorted(out, len(ids))


def _ints(values: Sequence[int]) -> Array:
    """At least one: a pointer has to point somewhere."""
    return np.array(values if len(values) else [POISON], np.int32)


def _poisoned(count: int, experts: int) -> list[Array]:
    sizes = (experts + 1, *[max(count, 1)] * 3)
    return [np.full(size, POISON, np.int32) for size in sizes]


def _sorted(out: Sequence[Array], count: int) -> Sorted:
    offsets, *others = out
    return Sorted(offsets.tolist(), *(array[:count].tolist() for array in others))
