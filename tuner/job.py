"""Job: one config as the measuring child needs it, and what a measurer does with jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from search_spaces.bucket import Bucket
from search_spaces.problems import AnyProblem
from templates.built import Target
from templates.cache import KernelCache
from tuner.backends.base import Candidate, Fidelity, Measurement


@dataclass(frozen=True)
class Job:
    """A built config: ``cubin`` is its machine code's file, for this card's architecture."""

    config: Any
    entry: str
    cubin: Path
    threads: int
    smem_bytes: int


def job_of(candidate: Candidate, target: Target, cache: KernelCache) -> Job:
    """The candidate as a measurer wants it: for the last of the target's architectures."""
    variant = candidate.built.variant
    cubin = cache.cubin_path(variant, target.ptx_arch, target.archs[-1])
    return Job(candidate.config, variant.entry, cubin, variant.threads, variant.smem_bytes)


@dataclass(frozen=True)
class Setting:
    """What is measured: the seed stands for the very inputs."""

    problem: AnyProblem
    bucket: Bucket
    seed: int


class Measurer(Protocol):
    """Lives in a worker process and owns one card.

    Its methods may raise UserError (nothing is lost) and RuntimeError (the process is lost).
    """

    def prepare(self, setting: Setting) -> None:
        """Make inputs and the reference of sampled rows. Raises UserError when they do not fit."""

    def evaluate(self, job: Job, fidelity: Fidelity) -> Measurement:
        """Check sampled rows, then time."""

    def check_all_rows(self, job: Job) -> Measurement:
        """Check every row; nothing is timed."""

    def race(self, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        """Time jobs in turns, their order drawn from ``seed``; nothing is checked."""
