"""What a finished variant costs the compiler: CPU-seconds alone and in a batch. Needs no GPU.

python scripts/bench_compile.py [--configs 30] [--batch 8] [--seed 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from search_spaces import Problem, UserError, find_gpu, space_for
from templates.built import BuildError, Built, Target
from templates.compiler import compile_batch
from templates.grouped_gemm import render
from templates.toolchain import toolchain
from templates.variant import Variant

PROBLEM = "grouped_gemm/mixtral-8x7b/gate_up/E8.N28672.K4096.top2.f16.promoted"
GOALS = {"alone": 2.0, "batched": 1.0}


@dataclass(frozen=True)
class Cost:
    """CPU-seconds of NVRTC and nvJitLink per finished variant."""

    median: float
    mean: float
    longest: float
    variants: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.configs < 1 or options.batch < 1:
            raise UserError("--configs and --batch must be 1 or more")
        report = measure(options.configs, options.batch, options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for way, goal in GOALS.items():
        cost = report[way]
        print(
            f"{way:8} median {cost['median']:.2f}  mean {cost['mean']:.2f}  "
            f"longest {cost['longest']:.2f} CPU-s a variant (goal: median <= {goal:.1f})"
        )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(configs: int, batch: int, seed: int) -> dict[str, Any]:
    """Compile ``configs`` random valid configs twice: each alone, then ``batch`` to a unit."""
    problem, gpu = Problem.parse(PROBLEM), find_gpu("RTX 2080 Ti")
    view, rng = space_for(problem.op).view(problem, gpu), random.Random(seed)
    variants: dict[Variant, str] = {}
    while len(variants) < configs:
        config = view.sample(rng)
        variants[render(problem, config)] = str(config)
    chosen, target = list(variants), Target.for_tier("sm_75")
    compile_batch(chosen[:1], target)  # the process's first compile also reads the headers in
    alone = [compile_batch([variant], target)[0] for variant in chosen]
    batched = [
        result
        for start in range(0, configs, batch)
        for result in compile_batch(chosen[start : start + batch], target)
    ]
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs",
        "nvrtc": ".".join(map(str, toolchain().nvrtc_version)),
        "problem": PROBLEM,
        "seed": seed,
        "batch": batch,
        "alone": asdict(_cost(alone)),
        "batched": asdict(_cost(batched)),
        "variants": [
            {"config": name, "alone": _seconds(one), "batched": _seconds(many)}
            for name, one, many in zip(variants.values(), alone, batched, strict=True)
        ],
    }


def _seconds(result: Built | BuildError) -> float:
    if isinstance(result, BuildError):
        raise UserError(f"{result.entry} does not compile: {result.log.splitlines()[0]}")
    return round(result.seconds, 3)


def _cost(results: Sequence[Built | BuildError]) -> Cost:
    seconds = [_seconds(result) for result in results]
    return Cost(
        round(statistics.median(seconds), 3),
        round(statistics.mean(seconds), 3),
        max(seconds),
        len(seconds),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--configs", type=int, default=30, help="random configs (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="variants a unit (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
