"""Kernels for the GPU's tests: a module has all of its own compiled at once, on every core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from search_spaces import space_for
from search_spaces.problems import AnyProblem, KernelProblem
from templates import CompilePool, Target, render
from templates.built import require_built
from templates.device import device_spec
from tuner.backends.base import Candidate
from tuner.job import Job, job_of

Kernels = Iterable[tuple[KernelProblem, Any]]


def begin(pool: CompilePool, kernels: Kernels) -> None:
    """Has these compiled, and waits for none: who asks for some later waits for those alone."""
    pool.submit([render(problem, config) for problem, config in kernels], _target())


def fill_cache(pool: CompilePool, kernels: Kernels) -> None:
    """Compiles what code under test will look for: a process of its own a kernel costs seconds."""
    pool.build([render(problem, config) for problem, config in kernels], _target())


def jobs(pool: CompilePool, problem: KernelProblem, configs: Sequence[Any]) -> list[Job]:
    """Kernels that can be bound, in the order of ``configs``."""
    results = pool.build([render(problem, config) for config in configs], _target())
    return [
        job_of(Candidate(config, require_built(built, config)), _target(), pool.cache)
        for config, built in zip(configs, results, strict=True)
    ]


def defaults(problems: Iterable[AnyProblem]) -> Kernels:
    """What the engine runs for these where nothing is tuned."""
    for problem in problems:
        yield problem, space_for(problem.op).view(problem, device_spec()).default()


def _target() -> Target:
    return Target.for_tier("sm_75", device_spec().arch)
