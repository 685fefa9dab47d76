"""A measurer without a GPU and without torch: it adds numbers, and misbehaves when a job asks.

What it adds comes from the setting's seed; a job's ``entry`` says how to go wrong. Times are real
ones of this CPU. ``log`` gets a line for all that is done, behind the process id.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from search_spaces.errors import UserError
from tuner.backends.base import Fidelity, Measurement
from tuner.job import Job, Setting
from tuning_db.records import Source, TrialStatus, Verified

MOST = 64  # tokens per expert that "fit"
BAD_SEED = 666


class PlainMeasurer:
    """Adds up random numbers naively; math.fsum knows the right sum."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.tell("start")

    def tell(self, what: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {what}\n")

    def prepare(self, setting: Setting) -> None:
        self.tell(f"prepare {setting.bucket} {setting.seed}")
        if setting.bucket.tokens_per_expert > MOST:
            raise UserError(f"{setting.bucket} does not fit")
        if setting.seed == BAD_SEED:
            raise RuntimeError("out of memory\nand advice")
        rng = random.Random(setting.seed)
        self.numbers = [rng.gauss(0, 1) for _ in range(1000)]

    def evaluate(self, job: Job, fidelity: Fidelity) -> Measurement:
        self.tell(f"evaluate {job.entry} {fidelity.value}")
        checked = self.check_all_rows(job)
        return checked if checked.status is not TrialStatus.OK else self.timed(job)

    def check_all_rows(self, job: Job) -> Measurement:
        self.tell(f"check {job.entry}")
        error = abs(self.add(job) / math.fsum(self.numbers) - 1)
        right = error < 1e-9
        return Measurement(
            job.config,
            TrialStatus.OK if right else TrialStatus.WRONG_RESULT,
            Source.MEASURED,
            Verified.EMULATED,
            rel_error=error,
            error=None if right else "a wrong sum",
        )

    def race(self, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        self.tell("race " + " ".join(job.entry for job in jobs))
        if any(job.entry == "dies in the race" for job in jobs):
            os.kill(os.getpid(), signal.SIGKILL)
        return [self.timed(job) for job in jobs]

    def timed(self, job: Job) -> Measurement:
        began = time.perf_counter()
        error = abs(self.add(job) / math.fsum(self.numbers) - 1)
        us = (time.perf_counter() - began) * 1e6
        return Measurement(
            job.config, TrialStatus.OK, Source.MEASURED, Verified.EMULATED,
            time_us=us, spread_us=0.0, rel_error=error,
        )  # fmt: skip

    def add(self, job: Job) -> float:
        if job.entry == "hangs":
            time.sleep(600)
        if job.entry == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if job.entry == "faults":
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with")
        if job.entry == "is broken":
            raise TypeError("a mistake in the measurer")
        total = 0.0
        for number in self.numbers[1 if job.entry == "forgets one" else 0 :]:
            total += number
        return total
