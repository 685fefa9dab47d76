"""Member: one card's measuring process, replaced when a config takes it down."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from search_spaces.errors import UserError
from tuner.backends.base import Fidelity, Measurement
from tuner.job import Job, Setting
from tuner.worker import Worker, WorkerFailure
from tuning_db.records import Source, TrialStatus, Verified


@dataclass(frozen=True)
class Deadlines:
    """Seconds after which a child counts as hung; ``race`` is per contestant."""

    prepare: float = 300.0  # the first one starts Python, CUDA and torch
    evaluate: float = 60.0
    check_all_rows: float = 120.0
    race: float = 60.0


class Member:
    """The card ``uuid``. Its child is started when there is work, and again after each loss.

    Inputs are made again from the same seed then. ``factory`` and ``arguments`` make the child's
    measurer. Safe to share between threads: commands follow one another.
    """

    def __init__(
        self, uuid: str, factory: str, arguments: tuple[Any, ...], deadlines: Deadlines
    ) -> None:
        self.uuid = uuid
        self._factory, self._arguments, self._deadlines = factory, arguments, deadlines
        self._commands = Lock()
        self._life = Lock()  # of the child: none is started once closed
        self._worker: Worker | None = None
        self._ready_for: Setting | None = None
        self._closed = False

    def prepare(self, setting: Setting) -> None:
        """Raises UserError when inputs cannot be made on this card."""
        with self._commands:
            self._prepare(setting)

    def evaluate(self, setting: Setting, job: Job, fidelity: Fidelity) -> Measurement:
        """A Measurement even when the job takes the child down."""
        with self._commands:
            worker = self._prepare(setting)
            seconds = self._deadlines.evaluate
            [result] = self._guarded(worker, [job], "evaluate", job, fidelity, seconds=seconds)
            return result

    def finals(self, setting: Setting, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        """Check every row of each job, then race those that passed; one Measurement a job."""
        with self._commands:
            results = [self._check(setting, job) for job in jobs]
            passed = [i for i, r in enumerate(results) if r.status is TrialStatus.OK]
            raced = self._race(setting, [jobs[i] for i in passed], seed)
            for i, result in zip(passed, raced, strict=True):
                results[i] = replace(result, rel_error=results[i].rel_error)
            return results

    def close(self) -> None:
        """End the child, in the middle of a measurement too. May be called twice."""
        with self._life:
            self._closed = True
            worker = self._worker
        if worker is not None:
            worker.kill()

    def _check(self, setting: Setting, job: Job) -> Measurement:
        worker, seconds = self._prepare(setting), self._deadlines.check_all_rows
        return self._guarded(worker, [job], "check_all_rows", job, seconds=seconds)[0]

    def _race(self, setting: Setting, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        """Should one take the child down, each races alone, so that only the guilty one fails."""
        if not jobs:
            return []
        worker, seconds = self._prepare(setting), self._deadlines.race * len(jobs)
        results = self._guarded(worker, jobs, "race", jobs, seed, seconds=seconds)
        if len(jobs) > 1 and results[0].status is not TrialStatus.OK:
            return [self._race(setting, [job], seed)[0] for job in jobs]
        return results

    def _guarded(
        self, worker: Worker, jobs: Sequence[Job], method: str, *arguments: Any, seconds: float
    ) -> list[Measurement]:
        """The child's answer, one Measurement a job; a failure of all of them when it is lost."""
        try:
            answer = worker.call(method, *arguments, seconds=seconds)
        except WorkerFailure as failure:
            self._worker = None
            if self._closed:
                raise CancelledError from failure
            return [self._failed(job, failure) for job in jobs]
        return [answer] if isinstance(answer, Measurement) else list(answer)

    def _failed(self, job: Job, failure: WorkerFailure) -> Measurement:
        return Measurement(
            job.config, failure.status, Source.MEASURED, Verified.NONE,
            error=str(failure), gpu_uuid=self.uuid,
        )  # fmt: skip

    def _prepare(self, setting: Setting) -> Worker:
        with self._life:
            if self._closed:
                raise CancelledError
            if self._worker is None:
                self._ready_for = None
                self._worker = Worker(self._factory, self._arguments)
            worker = self._worker
        if self._ready_for != setting:
            self._ready_for = None
            try:
                worker.call("prepare", setting, seconds=self._deadlines.prepare)
            except WorkerFailure as failure:
                self._worker = None
                what = f"{setting.problem} at {setting.bucket} on {self.uuid}"
                raise UserError(f"cannot measure {what}: {failure}") from failure
            self._ready_for = setting
        return worker
