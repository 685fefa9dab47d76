"""Made-up recordings: many configs of a small problem, with times from a formula."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from search_spaces import Bucket, Problem, find_gpu
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from tuner.recording import RecordedTrial, Recording, Tables
from tuning_db import TrialStatus

GPU = find_gpu("RTX 2080 Ti")
SMALL = Problem("grouped_gemm", experts=8, n=512, k=512, top_k=2, label="small/down")
GRID: dict[str, tuple[Any, ...]] = {
    "tile_m": (16, 32, 64, 128),
    "tile_n": (32, 64, 128, 256),
    "warps_n": (1, 2, 4),
    "stages": (1, 2, 3, 4),
    "smem": ("none", "pad8", "sw1.3.3", "sw2.3.3"),
    "acc": ("f32", "f16p4"),
    "group_m": (1, 4, 8, 16),
    "split_k": (1, 2, 4),
}
ONE, MANY = Bucket(1.0), Bucket(64.0)


def made_up_us(config: Any) -> float:
    """Smooth in the tile sizes, with an interaction and a penalty: learnable, but not trivial."""
    area = abs(config.tile_m * config.tile_n - 8192) / 8192
    depth = {1: 0.6, 2: 0.1, 3: 0.0, 4: 0.2}[config.stages]
    smem = {"none": 0.8, "pad8": 0.15}.get(config.smem, 0.0)
    acc = 0.5 if config.acc == "f32" else 0.0
    warps = abs(config.threads - 128) / 128
    order = 0.05 * abs(config.group_m - 8) + 0.3 * (config.split_k - 1)
    return float(100.0 * (1 + area + depth + smem + acc + 0.4 * warps + order))


def recorded_configs(count: int, seed: int = 0) -> list[Any]:
    """The default and ``count - 1`` others, each once, that differ in what the formula reads.

    The same ones whatever the rules of the search space say today: a recording is from another day.
    """
    default = GROUPED_GEMM.view(SMALL, GPU).default()
    points = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    random.Random(seed).shuffle(points)
    others = (replace(default, **point) for point in points)
    return list(islice(dict.fromkeys([default, *others]), count))


def made_up_recording(count: int, *, failing: float = 0.1) -> Recording:
    """Trials of SMALL in two buckets; a share of them, never the default, gave wrong results."""
    rng = random.Random(1)
    configs = recorded_configs(count)
    broken = {str(c) for c in configs[1:] if rng.random() < failing}
    tables: Tables = {}
    for bucket in (ONE, MANY):
        tables[SMALL, bucket] = {
            str(config): RecordedTrial(TrialStatus.WRONG_RESULT, rel_error=0.5)
            if str(config) in broken
            else RecordedTrial(
                TrialStatus.OK, made_up_us(config) * bucket.tokens_per_expert, 0.5, 2e-4
            )
            for config in configs
        }
    return Recording("RTX 2080 Ti", "made up", "2025-01-01T00:00:00", {}, tables)


def write_recording(path: Path, count: int) -> Path:
    """A made-up recording as a file."""
    made_up_recording(count).save(path)
    return path
