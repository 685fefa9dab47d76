"""``python -m tuner.emulate``: one config's kernel run on this CPU, checked and counted."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from typing import Any

from search_spaces import space_for
from search_spaces.command_line import run_command
from search_spaces.gate_problem import GateProblem
from search_spaces.gpu import find_gpu
from search_spaces.problem import Problem
from templates.build import build_batch
from templates.built import Target, require_built
from templates.cache import KernelCache
from templates.ops import render
from tuner.emulate_options import DEFAULT_PARTS, EmulateOptions, parse_emulate_options
from tuner.emulated_run import EmulatedRun, Task
from tuner.emulation_report import as_json, as_text
from tuner.gate_task import GateTask
from tuner.gemm_task import GemmTask
from tuner.valid_config import valid_config

EXIT_WRONG = 1
LARGEST_SEED = 1 << 31  # of those drawn here: short enough to type again


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0: right; 1: wrong, or a fault; 2: bad input, told in one line.
    """
    given = sys.argv[1:] if argv is None else argv
    return run_command(lambda: _emulate(parse_emulate_options(given)))


def _emulate(options: EmulateOptions) -> int:
    configs = _configs(options)
    task = _task(options, configs)
    variants = [render(task.problem, config) for config in configs]
    builds = build_batch(KernelCache(), variants, Target.for_tier(variants[0].tier))
    runs = list(map(task.run, configs, map(require_built, builds, configs)))
    _tell(options, task, runs)
    return 0 if all(run.emulated.ok for run in runs) else EXIT_WRONG


def _configs(options: EmulateOptions) -> list[Any]:
    """Valid for the problem as it is on the GPU that was named."""
    space = space_for(options.problem.op)
    view = space.view(options.problem, find_gpu(options.gpu))
    named = [None if n == "default" else space.config_type.parse(n) for n in options.configs]
    return [valid_config(config, view) for config in named]


def _task(options: EmulateOptions, configs: Sequence[Any]) -> Task:
    seed = secrets.randbelow(LARGEST_SEED) if options.seed is None else options.seed
    problem, bucket, rows = options.problem, options.bucket, options.rows
    if isinstance(problem, GateProblem):
        if bucket is None:
            return GateTask.small(problem, configs, seed)
        return GateTask(problem, bucket.tokens(problem), seed)
    assert isinstance(problem, Problem), "a layer is emulated part by part"
    if bucket is not None:
        rows = tuple(bucket.histogram(problem, seed))
    if rows is None:
        return GemmTask.small(problem, configs, seed, options.processes)
    # A token's row is there when all of its tiles are: combined rows are emulated whole.
    parts = None if problem.combine else options.parts or DEFAULT_PARTS
    return GemmTask(problem, rows, seed, parts, options.processes)


def _tell(options: EmulateOptions, task: Task, runs: Sequence[EmulatedRun]) -> None:
    if options.json:
        print(as_json(task, runs, with_lines=options.lines is not None))
    else:
        print(as_text(task, runs, options.lines))


if __name__ == "__main__":
    sys.exit(main())
