"""Runs of the emulator with a stopwatch: whole launches, and each kind of instruction."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch

from search_spaces import Bucket, Problem, UserError, find_gpu, space_for
from templates.built import Built, Target, require_built
from templates.compiler import compile_batch
from templates.grouped_gemm import launch_shape, render
from tuner.emulator import Unwritten, emulate, job
from tuner.emulator.cohort import Cohort
from tuner.emulator.isa.registry import Step
from tuner.emulator.opcode_class import opcode_class
from tuner.emulator.program import Program, assemble
from tuner.inputs import Inputs, draw_inputs
from tuner.valid_config import valid_config

CONTROL = "control and scheduling"  # branches, barriers, and the machine between the steps
START = "reading and assembling PTX, laying out memory"


@dataclass(frozen=True)
class Cost:
    """A launch, or the medians of several. ``start_s`` of ``cpu_s`` passes until the PTX is read
    and assembled and memory is laid out."""

    cpu_s: float
    start_s: float
    wall_s: float
    warp_instructions: int
    thread_instructions: int

    @property
    def running_s(self) -> float:
        """CPU-seconds from the first instruction on."""
        return self.cpu_s - self.start_s


@dataclass(frozen=True)
class Kind:
    """Instructions of one class; ``steps``: how often one was executed by a cohort."""

    name: str
    steps: int
    cpu_s: float


class Stopwatch:
    """CPU-seconds and steps by class of instruction: wall time of a busy core would lie."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps: dict[str, int] = {}

    def assemble(self, *arguments: Any) -> Program:
        """As the emulator's, with each step timed."""
        program = assemble(*arguments)
        steps = [
            None if step is None else self._timed(step, opcode_class(found))
            for step, found in zip(program.steps, program.instructions, strict=True)
        ]
        return replace(program, steps=tuple(steps))

    def _timed(self, step: Step, kind: str) -> Step:
        self.seconds.setdefault(kind, 0.0)
        self.steps.setdefault(kind, 0)

        def run(cohort: Cohort) -> None:
            start = time.process_time()
            step(cohort)
            self.seconds[kind] += time.process_time() - start
            self.steps[kind] += 1

        return run


@dataclass(frozen=True)
class Case:
    """A kernel and its operands: ``ctas`` full tiles."""

    config: Any
    problem: Problem
    built: Built
    inputs: Inputs
    ctas: int

    def run(self, *, checks: bool, count: bool, watch: Stopwatch | None = None) -> Cost:
        """One launch of all CTAs; ``watch`` times its steps."""
        inputs, variant = self.inputs, self.built.variant
        shape = launch_shape(self.problem, self.config, inputs.rows)
        a, b, c, *others = inputs.operands
        # No split-K: neither workspace nor counters.
        arguments = [a, b, Unwritten(c), *others, None, None]
        ready: list[float] = []

        def assembled(*parts: Any) -> Program:
            program = assemble(*parts) if watch is None else watch.assemble(*parts)
            ready.append(time.process_time())
            return program

        wall, cpu = time.perf_counter(), time.process_time()
        with patch.object(job, "assemble", assembled):
            done = emulate(
                self.built.ptx, shape.passes[0].grid, (variant.threads, 1, 1), variant.smem_bytes,
                [*arguments, *shape.passes[0].scalars], checks=checks, count=count,
            )  # fmt: skip
        return Cost(
            cpu_s=time.process_time() - cpu,
            start_s=ready[0] - cpu,
            wall_s=time.perf_counter() - wall,
            warp_instructions=done.warp_instructions,
            thread_instructions=done.thread_instructions,
        )


def make_case(name: str, k: int, tiles_m: int, tiles_n: int) -> Case:
    """Compiles the config for whole tiles and draws operands. Raises UserError for a bad name."""
    space = space_for("grouped_gemm")
    config = space.config_type.parse(name)
    problem = Problem("grouped_gemm", 1, n=tiles_n * config.tile_n, k=k, top_k=1)
    valid_config(config, space.view(problem, find_gpu("RTX 2080 Ti")))
    if config.split_k > 1:
        raise UserError(f"{name} splits K: name a config that ends in _k1")
    [result] = compile_batch([render(problem, config)], Target("compute_75", ()))
    built = require_built(result, name)
    rows = tiles_m * config.tile_m
    inputs = draw_inputs(problem, Bucket(float(rows)), [rows], 1, torch.device("cpu"))
    return Case(config, problem, built, inputs, tiles_m * tiles_n)


def median(costs: Sequence[Cost]) -> Cost:
    """Of launches of one kernel, whose counts are the same."""
    seconds = ("cpu_s", "start_s", "wall_s")
    middle = {name: statistics.median(getattr(cost, name) for cost in costs) for name in seconds}
    return replace(costs[0], **middle)


def kinds_of(case: Case, repeat: int) -> list[Kind]:
    """Cost by kind with everything on, dearest first: of ``repeat`` launches the median one."""
    launches = sorted((_one_launch(case) for _ in range(repeat)), key=_total)
    return sorted(launches[repeat // 2], key=lambda kind: -kind.cpu_s)


def _total(kinds: Sequence[Kind]) -> float:
    return sum(kind.cpu_s for kind in kinds)


def _one_launch(case: Case) -> list[Kind]:
    watch = Stopwatch()
    cost = case.run(checks=True, count=True, watch=watch)
    ran = (name for name, steps in watch.steps.items() if steps)
    kinds = [Kind(name, watch.steps[name], watch.seconds[name]) for name in ran]
    control = cost.running_s - sum(kind.cpu_s for kind in kinds)
    return [*kinds, Kind(CONTROL, 0, control), Kind(START, 0, cost.start_s)]
