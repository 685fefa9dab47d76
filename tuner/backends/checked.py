"""Checked: a backend whose finalists are proved by emulation before they are timed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from search_spaces.bucket import Bucket
from search_spaces.problems import AnyProblem
from tuner.backends.base import Backend, Candidate, Fidelity, Measurement
from tuner.emulated import Emulated
from tuner.emulation_check import EmulationCheck
from tuning_db.records import TrialStatus, Verified


class CheckedBackend:
    """``timed``, which it owns, with a check before the final.

    Emulating each trial would cost more than timing it, so only those that may win are emulated.
    """

    def __init__(self, timed: Backend, check: EmulationCheck) -> None:
        self.source, self.gpu = timed.source, timed.gpu
        self.archs, self.slots = timed.archs, timed.slots
        self._timed, self._check = timed, check
        self._problem: AnyProblem | None = None

    def prepare(self, problem: AnyProblem, bucket: Bucket, seed: int) -> None:
        """As the backend that times does."""
        self._problem = problem
        self._timed.prepare(problem, bucket, seed)

    def submit(self, candidate: Candidate, fidelity: Fidelity) -> Future[Measurement]:
        """As the backend that times does: nothing is emulated."""
        return self._timed.submit(candidate, fidelity)

    def finals(self, candidates: Sequence[Candidate], seed: int) -> list[Measurement]:
        """Emulates all on small problems, then times those that are right."""
        assert self._problem is not None, "prepare comes first"
        configs = [candidate.config for candidate in candidates]
        found = self._check.check(self._problem, configs, seed)
        right = [candidate for candidate in candidates if found[candidate.config].ok]
        timed = self._timed.finals(right, seed) if right else []
        failed = [
            self._failure(config, found[config]) for config in configs if not found[config].ok
        ]
        return [_proved(measured, found[measured.config]) for measured in timed] + failed

    def close(self) -> None:
        """Ends what the backend that times has started."""
        self._timed.close()

    def _failure(self, config: object, found: Emulated) -> Measurement:
        compared = found.status is TrialStatus.WRONG_RESULT
        return Measurement(
            config,
            found.status,
            self.source,
            Verified.EMULATED if compared else Verified.NONE,
            rel_error=found.rel_error,
            error=f"emulated on a small problem: {found.reason}",
        )


def _proved(measured: Measurement, found: Emulated) -> Measurement:
    """A check on a GPU says more: all rows of the problem itself."""
    if measured.verified is not Verified.NONE or measured.status is not TrialStatus.OK:
        return measured
    return replace(measured, verified=Verified.EMULATED, rel_error=found.rel_error)
