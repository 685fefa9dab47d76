"""Tuned grouped GEMM beside its default and torch, over all buckets, on this machine's GPU.

python scripts/bench_grouped_gemm.py [--db PATH] [--minutes 8] [--out DIR]

Every row of every config is checked first; contestants of a bucket are timed in turns, with a cold
L2, in one run. Roofline shares use ceilings that the same run measures.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import out_folder, provenance, write
from scripts.grouped_gemm_tables import DEFAULT, VARIANTS, WINNER, Result, body
from scripts.probe_gpu import Ceilings, ceiling_rows, measure_ceilings
from search_spaces import Bucket, GpuSpec, Problem, SpaceView, UserError, bucket_grid, space_for
from search_spaces.models import LAYERS, load_model
from templates.built import Target, require_built
from templates.device import device_spec
from templates.grouped_gemm import render
from templates.pool import CompilePool
from tuner.backends.base import Candidate
from tuner.job import Job, Setting, job_of
from tuner.provenance import command_line
from tuning_db import TuningDB

MODELS = "mixtral-8x7b,olmoe-1b-7b"
VARIANT_BUCKETS = (1.0, 16.0, 256.0, 1024.0)


@dataclass(frozen=True)
class Case:
    """What is to be timed in one bucket: configs by role."""

    problem: Problem
    bucket: Bucket
    configs: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 when a result of ours was wrong; 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser().parse_args(given)
    try:
        return _bench(options, command_line("scripts.bench_grouped_gemm", given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--db", help="tuning DB (default: $LIGHT_MOE_DB, else ./tuning.sqlite)")
    add("--config", metavar="NAME|default", help="this config in place of the DB's winners")
    add("--models", default=MODELS, help="default: %(default)s")
    add("--layers", default=",".join(LAYERS), help="default: %(default)s")
    add("--buckets", default="all", help="tokens per expert, e.g. 1,16,256 (default: all)")
    add("--minutes", type=float, default=8.0, help="leave out what does not fit (%(default)s)")
    add("--device", type=int, default=0)
    add("--seed", type=int, help="of the inputs (default: a fresh one, written down)")
    add("--out", type=Path, help="folder (default: $OUT, else build/results)")
    return parser


def _bench(options: argparse.Namespace, command: str) -> int:
    deadline = time.monotonic() + 60 * options.minutes
    gpu = device_spec(options.device)
    cases = make_cases(options, gpu)
    jobs = _build(cases, gpu)
    # Imported when there is something to measure: what can be refused is refused before.
    from scripts.grouped_gemm_contest import contest
    from tuner.measurer import GpuMeasurer

    ceilings = measure_ceilings(options.device)
    measurer = GpuMeasurer(options.device)
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    results: list[Result] = []
    for number, case in enumerate(cases):
        if time.monotonic() > deadline:
            break
        setting = Setting(case.problem, case.bucket, seed + number)
        chosen = {role: jobs[case.problem, config] for role, config in case.configs.items()}
        entries = contest(measurer, setting, chosen)
        results.append(Result(case.problem, case.bucket, tuple(entries)))
        times = ", ".join(f"{e.name} {e.time_us or 0:.1f}" for e in entries)
        print(f"{case.problem.label} {case.bucket}: {times} us", flush=True)
    left_out = [f"{case.problem.label} {case.bucket}" for case in cases[len(results) :]]
    _write(options, command, seed, ceilings, results, left_out)
    return 0 if all(result.sound for result in results) else 1


def make_cases(options: argparse.Namespace, gpu: GpuSpec) -> list[Case]:
    """What to time. Raises UserError for unknown names, and where the DB or a winner is missing."""
    models = [load_model(name) for name in options.models.split(",")]
    problems = [model.problem(layer) for model in models for layer in options.layers.split(",")]
    stored = nullcontext() if options.config else TuningDB.open(options.db, readonly=True)
    cases = []
    with stored as db:
        for problem in problems:
            view = space_for(problem.op).view(problem, gpu)
            for bucket in _buckets(options.buckets, problem):
                winner = _given(options.config, view) if db is None else _stored(db, view, bucket)
                cases.append(Case(problem, bucket, _roles(winner, bucket, view)))
    return cases


def _buckets(text: str, problem: Problem) -> list[Bucket]:
    if text == "all":
        return bucket_grid(problem)
    return [Bucket.parse(word) for word in text.split(",")]


def _given(name: str, view: SpaceView) -> Any:
    if name == "default":
        return view.default()
    config = view.space.config_type.parse(name)
    broken = view.explain(config)
    if broken:
        raise UserError(f"--config {config} is invalid for {view.problem}: {broken[0]}")
    return config


def _stored(db: TuningDB, view: SpaceView, bucket: Bucket) -> Any:
    winner = db.winner(view.problem, bucket, view.gpu.name)
    if winner is None:
        raise UserError(
            f"{db.url} has no winner for {view.problem} at {bucket} on {view.gpu.name}: search it "
            "first (python -m tuner.search --buckets all), or give --buckets or --config"
        )
    return view.space.config_type.parse(winner.trial.config)


def _roles(winner: Any, bucket: Bucket, view: SpaceView) -> dict[str, Any]:
    """The winner, the default, and in some buckets the winner without its swizzle."""
    roles = {WINNER: winner, DEFAULT: view.default()}
    if bucket.tokens_per_expert in VARIANT_BUCKETS:
        for smem, name in VARIANTS.items():
            variant = replace(winner, smem=smem)
            if not view.explain(variant):
                roles[name] = variant
    return roles


def _build(cases: Sequence[Case], gpu: GpuSpec) -> dict[tuple[Problem, Any], Job]:
    """Every config's machine code. Raises UserError when one does not compile."""
    wanted = list(dict.fromkeys((c.problem, x) for c in cases for x in c.configs.values()))
    variants = [render(problem, config) for problem, config in wanted]
    target = Target.for_tier(variants[0].tier, gpu.arch)
    jobs = {}
    with CompilePool() as pool:
        for (problem, config), result in zip(wanted, pool.build(variants, target), strict=True):
            built = require_built(result, config)
            jobs[problem, config] = job_of(Candidate(config, built), target, pool.cache)
    return jobs


def _write(
    options: argparse.Namespace,
    command: str,
    seed: int,
    ceilings: Ceilings,
    results: Sequence[Result],
    left_out: Sequence[str],
) -> None:
    facts = {**provenance(command), "seed": str(seed)}
    lines = [*ceiling_rows(ceilings), "", *body(results, ceilings, left_out)]
    data = {
        "ceilings": asdict(ceilings),
        "results": [result.json(ceilings) for result in results],
        "left_out": list(left_out),
    }
    folder = out_folder(options.out)
    paths = write(folder, "grouped_gemm", "Grouped GEMM", facts, lines, data)
    print("\n".join(lines))
    print("wrote " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    sys.exit(main())
