"""vLLM: the winners as the JSON table that its fused-MoE Triton kernel looks up by token count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from search_spaces import space_for
from search_spaces.errors import UserError
from search_spaces.gpu import canonical_name
from search_spaces.problem import Problem
from tuning_db.records import Winner
from tuning_db.store import TuningDB

NAME = re.compile(
    r"E=(?P<experts>\d+),N=(?P<n>\d+),device_name=(?P<device>[^,]+)(?P<more>,.+)?\.json"
)
EXAMPLE = "E=8,N=14336,device_name=NVIDIA_H100_80GB_HBM3.json"
SMALLEST = 16  # Triton's tl.dot takes no side below 16


def table(
    db: TuningDB, path: Path, *, gpu: str | None = None, model: str | None = None
) -> dict[str, dict[str, int]]:
    """Token count T -> Triton's launch parameters, for the layer that the file's name tells.

    vLLM asks for a file by E, N (the intermediate size: half of gate_up's columns) and the
    driver's name of the GPU, and looks T, the tokens before top-k, up in it. The same table then
    serves both GEMMs of the layer. Winners of gate_up under uniform routing are what is written:
    tiles, warps and stages carry over, all else of a config has no counterpart in Triton.

    Raises UserError for a file name vLLM would not look for, and when no winner fits the name, or
    winners of several problems do.
    """
    match = NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path.name}: vLLM finds its files by name, use one such as {EXAMPLE}")
    if match["more"]:
        raise UserError(
            f"{path.name}: '{match['more'][1:]}' stands for quantised weights, of which there are "
            f"no winners: use a name such as {EXAMPLE}"
        )
    device = canonical_name(match["device"].replace("_", " "))
    if gpu is not None and canonical_name(gpu) != device:
        raise UserError(f"{path.name} is a file for {device}, not for {canonical_name(gpu)}")
    found = [
        winner
        for winner in db.winners(device, op="grouped_gemm")
        if _fits(winner, int(match["experts"]), int(match["n"]), model)
    ]
    keys = sorted({winner.problem.key for winner in found})
    if not keys:
        raise UserError(
            f"{path.name}: no winner on {device} is of a gate_up layer with this E and N; "
            "python -m tuning_db show lists the winners"
        )
    if len(keys) > 1:
        raise UserError(
            f"{path.name}: {len(keys)} problems have this E and N, choose one with --model: "
            + " or ".join(keys)
        )
    return {str(w.bucket.tokens(w.problem)): _triton(w) for w in found}


def _fits(winner: Winner, experts: int, n: int, model: str | None) -> bool:
    problem = winner.problem
    return (
        isinstance(problem, Problem)
        and winner.bucket.skew.kind == "uniform"
        and (problem.experts, problem.n, problem.dtype) == (experts, 2 * n, "f16")
        and not problem.label.endswith("/down")
        and model in (None, problem.key, problem.label, problem.label.rpartition("/")[0])
    )


def _triton(winner: Winner) -> dict[str, int]:
    config: Any = space_for(winner.problem.op).config_type.parse(winner.trial.config)
    return {
        "BLOCK_SIZE_M": max(SMALLEST, config.tile_m),
        "BLOCK_SIZE_N": max(SMALLEST, config.tile_n),
        "BLOCK_SIZE_K": max(SMALLEST, config.tile_k),
        "GROUP_SIZE_M": config.group_m,
        "num_warps": config.warps_m * config.warps_n * config.warps_k,
        "num_stages": config.stages,
    }
