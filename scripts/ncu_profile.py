"""One profiled launch, read from what ``ncu --csv --page raw`` prints."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search_spaces import UserError

# What each metric counts. Of the two ways ncu has to count wavefronts, the instruction-level one is
# taken: l1tex__data_bank_conflicts... also counts what arbitration between warps delays.
LDMATRIX = "smsp__inst_executed_op_ldsm.sum"  # warp instructions LDSM
# Warp instructions HMMA on the tensor pipe: one for each mma.m16n8k8 in fp16.
MMA = "sm__inst_executed_pipe_tensor_op_hmma.sum"
WAVEFRONTS = "memory_l1_wavefronts_shared"  # of all shared-memory instructions, per instruction
WAVEFRONTS_IDEAL = "memory_l1_wavefronts_shared_ideal"  # had every access been free of conflicts
# 32-byte sectors that loads and stores (no atomics) asked the L1 for.
LOAD_SECTORS = "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum"
STORE_SECTORS = "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum"
COUNTS = (LDMATRIX, MMA, WAVEFRONTS, WAVEFRONTS_IDEAL, LOAD_SECTORS, STORE_SECTORS)
GPU_NAME = "device__attribute_display_name"
METRICS = (*COUNTS, GPU_NAME)


@dataclass(frozen=True)
class Profile:
    """``counts`` by metric, those of COUNTS. ``grid`` as ncu writes it: ``(25, 1, 1)``."""

    gpu: str
    kernel: str
    grid: str
    block: str
    counts: Mapping[str, int]


def read_profile(path: Path) -> Profile:
    """The only launch of a profile.

    ncu prints lines of its own and those of the program, then a table: names, units, and a row for
    each launch. Raises UserError for a file without them, with more launches than one, and for a
    metric that this GPU or this version of ncu does not have.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID",')), None)
    if start is None:
        told = next((line for line in lines if line.startswith("==ERROR==")), "it has no table")
        raise UserError(f"{path} is no output of ncu --csv --page raw: {told}")
    heads, *rows = csv.reader(line for line in lines[start:] if line.startswith('"'))
    launches = [dict(zip(heads, row, strict=False)) for row in rows if row[0]]
    if len(launches) != 1:
        raise UserError(f"{path} has {len(launches)} launches of the kernel, expected one")
    launch = launches[0]
    return Profile(
        gpu=launch.get(GPU_NAME, "unknown GPU"),
        kernel=launch.get("Kernel Name", ""),
        grid=launch.get("Grid Size", ""),
        block=launch.get("Block Size", ""),
        counts={metric: _count(path, metric, launch.get(metric)) for metric in COUNTS},
    )


def _count(path: Path, metric: str, text: str | None) -> int:
    """``1,048,576`` or ``1048576``."""
    digits = (text or "").replace(",", "")
    if not digits.isdecimal():
        told = "does not have it" if text is None else f"says '{text}'"
        raise UserError(f"{path} {told} for {metric}: see ncu --query-metrics on that machine")
    return int(digits)
