"""Predict: a GPU that is not here, as the cost model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from search_spaces.bucket import Bucket
from search_spaces.gpu import GpuSpec
from search_spaces.prices import predict
from search_spaces.problems import AnyProblem
from search_spaces.ranking import HISTOGRAM_SEED
from templates.built import Binary, Target
from tuner.backends.base import Candidate, Fidelity, Measurement
from tuning_db.records import Source, TrialStatus, Verified


class PredictBackend:
    """Prices what the compiler really made of a config; nothing runs.

    ``tier`` is the instruction set of the kernels ("sm_75"), assembled for it and for the GPU's
    own architecture. Needs no process and no device.
    """

    source = Source.PREDICTED
    slots = 1

    def __init__(self, gpu: GpuSpec, tier: str) -> None:
        self.gpu = gpu
        self.archs = Target.for_tier(tier, gpu.arch).archs
        self._problem: AnyProblem | None = None
        self._rows: list[int] = []

    def prepare(self, problem: AnyProblem, bucket: Bucket, seed: int) -> None:
        """Routes tokens to experts; always alike, whatever the seed."""
        self._problem, self._rows = problem, bucket.histogram(problem, HISTOGRAM_SEED)

    def submit(self, candidate: Candidate, fidelity: Fidelity) -> Future[Measurement]:
        done: Future[Measurement] = Future()
        done.set_result(self._price(candidate))
        return done

    def finals(self, candidates: Sequence[Candidate], seed: int) -> list[Measurement]:
        """The same prices again: a model does not change its mind."""
        return [self._price(candidate) for candidate in candidates]

    def close(self) -> None:
        """Nothing to end."""

    def _price(self, candidate: Candidate) -> Measurement:
        assert self._problem is not None, "prepare comes first"
        reason = _spills(candidate.built.binaries[self.archs[-1]])
        if reason is not None:
            return Measurement(
                candidate.config,
                TrialStatus.REJECTED,
                self.source,
                Verified.NONE,
                error=reason,
            )
        prediction = predict(self._problem, candidate.config, self.gpu, self._rows)
        return Measurement(
            candidate.config,
            TrialStatus.OK,
            self.source,
            Verified.NONE,
            time_us=prediction.total_us,
            spread_us=0.0,
        )


def _spills(binary: Binary) -> str | None:
    spilled = binary.resources.spill_stores + binary.resources.spill_loads
    if not spilled:
        return None
    return f"spills {spilled} bytes a thread on {binary.arch}, which the cost model cannot price"
