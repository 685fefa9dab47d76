"""What every measuring backend promises: subclass it, and give it something to measure."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from search_spaces.bucket import Bucket
from search_spaces.problems import AnyProblem
from tuner.backends.base import Backend, Candidate, Fidelity, Measurement
from tuning_db import TrialStatus

PATIENCE_S = 120.0


class BackendContract:
    """Subclasses provide the fixtures ``backend``, ``problem``, ``buckets`` (a small and a large
    one), ``candidates`` (at least two that work) and ``failing`` (one that does not).
    """

    @pytest.fixture
    def prepared(
        self, backend: Backend, problem: AnyProblem, buckets: tuple[Bucket, Bucket]
    ) -> None:
        backend.prepare(problem, buckets[0], 1)

    def measure(self, backend: Backend, candidate: Candidate, fidelity: Fidelity) -> Measurement:
        future = backend.submit(candidate, fidelity)
        assert isinstance(future, Future)
        return future.result(PATIENCE_S)

    def check_ok(self, backend: Backend, measured: Measurement) -> None:
        assert measured.status is TrialStatus.OK, measured.error
        assert measured.source is backend.source
        assert measured.time_us is not None and measured.time_us > 0
        assert measured.spread_us is not None and measured.spread_us >= 0
        assert measured.error is None

    def test_says_what_it_is(self, backend: Backend) -> None:
        assert backend.slots >= 1
        assert len(set(backend.archs)) == len(backend.archs)

    @pytest.mark.parametrize("fidelity", list(Fidelity))
    @pytest.mark.usefixtures("prepared")
    def test_times_a_config_that_works(
        self, backend: Backend, candidates: list[Candidate], fidelity: Fidelity
    ) -> None:
        for candidate in candidates:
            measured = self.measure(backend, candidate, fidelity)
            assert measured.config == candidate.config
            self.check_ok(backend, measured)

    @pytest.mark.usefixtures("prepared")
    def test_slots_may_be_filled_and_answers_keep_to_their_configs(
        self, backend: Backend, candidates: list[Candidate]
    ) -> None:
        batch = (candidates * backend.slots)[: backend.slots]
        futures = [backend.submit(candidate, Fidelity.SHORT) for candidate in batch]
        for candidate, future in zip(batch, futures, strict=True):
            assert future.result(PATIENCE_S).config == candidate.config

    @pytest.mark.usefixtures("prepared")
    def test_a_failure_is_a_measurement(
        self, backend: Backend, candidates: list[Candidate], failing: Candidate
    ) -> None:
        measured = self.measure(backend, failing, Fidelity.SHORT)
        assert measured.status is not TrialStatus.OK
        assert measured.time_us is None
        assert measured.error
        self.check_ok(backend, self.measure(backend, candidates[0], Fidelity.SHORT))

    @pytest.mark.usefixtures("prepared")
    def test_a_larger_bucket_takes_longer(
        self,
        backend: Backend,
        problem: AnyProblem,
        buckets: tuple[Bucket, Bucket],
        candidates: list[Candidate],
    ) -> None:
        small = self.measure(backend, candidates[0], Fidelity.FULL).time_us
        backend.prepare(problem, buckets[1], 1)
        large = self.measure(backend, candidates[0], Fidelity.FULL).time_us
        assert small is not None and large is not None
        assert large > small

    @pytest.mark.usefixtures("prepared")
    def test_finals_time_every_candidate_on_every_card(
        self, backend: Backend, candidates: list[Candidate]
    ) -> None:
        measured = backend.finals(candidates, 2)
        cards = {one.gpu_uuid for one in measured}
        assert {(one.config, one.gpu_uuid) for one in measured} == {
            (candidate.config, card) for candidate in candidates for card in cards
        }
        assert len(measured) == len(candidates) * len(cards)
        for one in measured:
            self.check_ok(backend, one)

    def test_closes_twice(self, backend: Backend) -> None:
        backend.close()
        backend.close()
