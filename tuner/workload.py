"""Workload: what a measurer has to know of an op: operands, kernels on them, and what is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from tuner.bound_kernel import BoundKernel
from tuner.job import Job
from tuner.verify import Verdict


class Launchable(Protocol):
    """A kernel on operands of a workload, like :class:`tuner.bound_kernel.BoundKernel`."""

    def __call__(self) -> None:
        """Queue its launches."""

    def counters_are_zero(self) -> bool:
        """Whether its counters are as they were before."""


class Workload(Protocol):
    """The operands of one (problem, bucket, seed) on a device, and the reference for them."""

    def bind(self, jobs: Sequence[Job]) -> list[BoundKernel]:
        """A kernel for each job. Raises torch.OutOfMemoryError when scratch does not fit."""

    def check(self, job: Job, kernel: Launchable, *, every_row: bool) -> Verdict:
        """Launchable once on poisoned memory and look at everything it left behind.

        ``every_row`` asks for all of the result, which may take long; else a sample will do.
        """


def launched(kernel: Launchable, device: torch.device) -> str | None:
    """Runs it to its end; the reason when its counters are not as they should be."""
    kernel()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return None if kernel.counters_are_zero() else "counters are not zero after the launch"
