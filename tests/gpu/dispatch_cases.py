"""Problems for the dispatcher's GPU tests, and an fp64 oracle with the stated bound."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from engine.kernels import TunedKernels
from search_spaces import GroupedGemmConfig, Problem, space_for
from search_spaces.numerics import tolerance
from templates.device import device_spec
from tests.engine.tuned_db import add_bucket

# N and K are no multiples of any tile, so that every tail is predicated.
SMALL = Problem("grouped_gemm", 8, 264, 264, 2)


def default_config(problem: Problem) -> GroupedGemmConfig:
    """What runs for the problem on this machine's first GPU where nothing is tuned."""
    config: GroupedGemmConfig = space_for(problem.op).view(problem, device_spec(0)).default()
    return config


def split_kernels(file: Path, problem: Problem, rows: int) -> TunedKernels:
    """Kernels whose DB says: split K in two, at ``rows`` rows."""
    config = replace(default_config(problem), split_k=2)
    assert space_for(problem.op).view(problem, device_spec(0)).explain(config) == []
    gpu, bucket = device_spec(0).name, f"{rows / problem.experts:g}"
    add_bucket(file, bucket, {str(config): 10.0}, problem=problem, gpu=gpu)
    kernels = TunedKernels(file, "cuda")
    assert kernels.explain(problem, rows // problem.top_k).config == str(config)
    return kernels


def ragged(problem: Problem, rows: int, seed: int) -> torch.Tensor:
    """Offsets [E + 1] of a random split of ``rows`` with empty experts, on the GPU."""
    rng = random.Random(seed)
    busy = rng.sample(range(problem.experts), rng.randint(1, problem.experts))
    counts = [0] * problem.experts
    for expert in rng.choices(busy, k=rows):
        counts[expert] += 1
    bounds = [sum(counts[:expert]) for expert in range(problem.experts + 1)]
    return torch.tensor(bounds, dtype=torch.int32, device="cuda")


def operands(
    problem: Problem, rows: int, seed: int, device: str = "cuda"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random a [rows, K] and b [E, N, K]."""
    generator = torch.Generator(device).manual_seed(seed)
    a = torch.randn(rows, problem.k, generator=generator, device=device).half()
    b = torch.randn(problem.experts, problem.n, problem.k, generator=generator, device=device)
    return a, b.half()


def assert_right(
    c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, acc: str = "f32"
) -> None:
    """Every element within its stated distance of an fp64 product."""
    bound = tolerance(acc, a.shape[1])
    bounds = offsets.tolist()
    for expert, (begin, end) in enumerate(pairwise(bounds)):
        x, w = a[begin:end].double(), b[expert].double()
        exact = x @ w.T
        scale = (x.square() @ w.square().T).sqrt()
        allowed = bound.relative * exact.abs() + bound.scale * scale + bound.absolute
        excess = (c[begin:end].double() - exact).abs() - allowed
        assert not excess.isnan().any()
        assert not (excess > 0).any(), f"expert {expert}: off by {excess.max().item():g}"
