"""Gpu: configs checked and timed on the cards of one model, a process per card."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from search_spaces.bucket import Bucket
from search_spaces.gpu import GpuSpec
from search_spaces.problems import AnyProblem
from templates.built import Target
from templates.cache import KernelCache
from templates.device import device_uuid
from tuner.backends.base import Candidate, Fidelity, Measurement
from tuner.crew import Crew
from tuner.job import Setting, job_of
from tuning_db.records import Source

MEASURER = "tuner.measurer:GpuMeasurer"


class GpuBackend:
    """Measures on ``cards``, CUDA device numbers of identical GPUs, kernels of ``tier``.

    Candidates must have been built into ``cache`` (None: the default one) for all of ``archs``.
    Raises UserError when a card does not exist.
    """

    source = Source.MEASURED

    def __init__(
        self, gpu: GpuSpec, cards: Sequence[int], tier: str, cache: KernelCache | None = None
    ) -> None:
        self.gpu = gpu
        self._target = Target.for_tier(tier, gpu.arch)
        self.archs = self._target.archs
        self.slots = 2 * len(cards)  # one under way and one waiting, so that no card idles
        self._cache = cache or KernelCache()
        self._crew = Crew(MEASURER, {device_uuid(card): (card,) for card in cards})

    def prepare(self, problem: AnyProblem, bucket: Bucket, seed: int) -> None:
        """Makes inputs and reference on every card. Raises UserError when they do not fit."""
        self._crew.prepare(Setting(problem, bucket, seed))

    def submit(self, candidate: Candidate, fidelity: Fidelity) -> Future[Measurement]:
        """Checks sampled rows, then times; on whichever card is free."""
        return self._crew.submit(job_of(candidate, self._target, self._cache), fidelity)

    def finals(self, candidates: Sequence[Candidate], seed: int) -> list[Measurement]:
        """On every card: all rows checked on new inputs, then all timed in turns."""
        jobs = [job_of(candidate, self._target, self._cache) for candidate in candidates]
        return self._crew.finals(jobs, seed)

    def close(self) -> None:
        """Ends the processes, in the middle of a measurement too."""
        self._crew.close()
