"""CompilePool: variants in, finished kernels out, on every core, through the cache."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from types import TracebackType

from search_spaces.errors import UserError
from templates.built import BuildError, Built, Target
from templates.cache import KernelCache
from templates.futures import gather
from templates.toolchain import toolchain
from templates.variant import Variant
from templates.worker import CompileWorker, Reply, WorkerDiedError

# The headers cost as much as two kernels: a translation unit of 8 shares them well, and with
# fewer than 4 another worker would only parse them once more.
MIN_BATCH, MAX_BATCH = 4, 8
# A search submits one variant at a time: waiting this long for company saves a second of headers.
LINGER_SECONDS = 0.1


@dataclass(eq=False)
class _Job:
    variant: Variant
    target: Target
    future: Future[Built | BuildError] = field(default_factory=Future)
    alone: bool = False

    def fits(self, other: _Job) -> bool:
        """May share a translation unit."""
        mine = (self.target, self.variant.headers, self.variant.tier, self.alone)
        theirs = (other.target, other.variant.headers, other.variant.tier, other.alone)
        return mine == theirs and not self.alone


class CompilePool:
    """Long-lived compile workers, at most ``workers`` of them, started when there is work.

    ``workers`` is how many there may be, by default one for each core of this process.

    One thread of this process stands for each worker: it takes a batch from the queue, sends it
    and settles the answers. Leaving the ``with`` block ends the workers and cancels what waits.
    Raises UserError when the toolchain is incomplete or ``workers`` is below 1.
    """

    def __init__(self, workers: int | None = None, cache: KernelCache | None = None) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"{workers} compile workers cannot build anything: give 1 or more")
        toolchain()
        self.cache = cache or KernelCache()
        self.workers = workers or len(os.sched_getaffinity(0))
        self._changed = Condition()
        self._queue: deque[_Job] = deque()
        self._open: dict[tuple[Variant, Target], _Job] = {}
        self._threads: list[Thread] = []
        self._workers: list[CompileWorker] = []
        self._idle = 0
        self._closed = False

    def submit(
        self, variants: Sequence[Variant], target: Target
    ) -> Future[list[Built | BuildError]]:
        """Results in the order of ``variants``, once all are there; cached ones cost no worker.

        The future raises UserError when the cache cannot be written. Submit few at a time to see
        results as they come.
        """
        return gather([self._enter(variant, target) for variant in variants])

    def build(self, variants: Sequence[Variant], target: Target) -> list[Built | BuildError]:
        """``submit`` and wait."""
        return self.submit(variants, target).result()

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that live."""
        with self._changed:
            return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End the workers, in the middle of a compile too; unfinished futures are cancelled."""
        with self._changed:
            self._closed = True
            waiting = list(self._queue)
            self._queue.clear()
            for worker in self._workers:
                worker.kill()
            self._changed.notify_all()
        for job in waiting:
            job.future.cancel()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> CompilePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _enter(self, variant: Variant, target: Target) -> Future[Built | BuildError]:
        known = self.cache.load(variant, target)
        if known is not None:
            done: Future[Built | BuildError] = Future()
            done.set_result(known)
            return done
        with self._changed:
            if self._closed:
                raise RuntimeError("this CompilePool is closed")
            job = self._open.get((variant, target))
            if job is None:
                job = self._open[variant, target] = _Job(variant, target)
                self._queue.append(job)
                wanted = math.ceil(len(self._queue) / MIN_BATCH)
                if self._idle < wanted and len(self._threads) < self.workers:
                    self._start_thread()
                self._changed.notify()
            return job.future

    def _start_thread(self) -> None:
        thread = Thread(target=self._run, name="light-moe-compile", daemon=True)
        self._threads.append(thread)
        self._idle += 1
        thread.start()

    def _run(self) -> None:
        worker: CompileWorker | None = None
        while batch := self._take():
            try:
                worker = worker or self._start_worker()
                self._settle(batch, worker.build([job.variant for job in batch], batch[0].target))
            except OSError as error:
                self._settle(batch, UserError(f"cannot start a compile worker: {error}"))
            except WorkerDiedError as death:
                self._forget(worker)
                worker = None
                self._retry(batch, str(death))

    def _take(self) -> list[_Job]:
        """The next batch, in the order of asking; empty when the pool closes."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._changed.wait_for(self._worth_taking, LINGER_SECONDS)
            if self._closed:
                return []
            idle = max(1, self.workers - len(self._threads) + self._idle)
            size = min(MAX_BATCH, max(MIN_BATCH, math.ceil(len(self._queue) / idle)))
            first = self._queue[0]
            batch = [job for job in self._queue if job is first or job.fits(first)][:size]
            for job in batch:
                self._queue.remove(job)
            self._idle -= 1
            return batch

    def _worth_taking(self) -> bool:
        return self._closed or len(self._queue) >= MAX_BATCH

    def _start_worker(self) -> CompileWorker:
        with self._changed:
            if self._closed:
                raise WorkerDiedError("the pool was closed")
            worker = CompileWorker(self.cache.root)
            self._workers.append(worker)
            return worker

    def _forget(self, worker: CompileWorker | None) -> None:
        with self._changed:
            if worker in self._workers:
                self._workers.remove(worker)

    def _settle(self, batch: list[_Job], reply: Reply) -> None:
        with self._changed:
            self._idle += 1
            for job in batch:
                del self._open[job.variant, job.target]
        for i, job in enumerate(batch):
            if isinstance(reply, UserError):
                job.future.set_exception(reply)
            else:
                job.future.set_result(reply[i])

    def _retry(self, batch: list[_Job], death: str) -> None:
        """After a crash: each variant once more by itself; the one that crashes again is guilty."""
        with self._changed:
            closed = self._closed
            again = not (closed or batch[0].alone)
            if again:
                self._idle += 1
                for job in batch:
                    job.alone = True
                self._queue.extendleft(reversed(batch))
                self._changed.notify_all()
        if closed:
            for job in batch:
                job.future.cancel()
        elif not again:
            self._settle(batch, [BuildError(job.variant.entry, death) for job in batch])
