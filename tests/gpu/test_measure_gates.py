"""GpuBackend on gates: the contract of every backend, and gates planted to go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from search_spaces import Bucket, space_for
from search_spaces.gate_problem import GateProblem
from templates import Variant, render
from templates.build import build_batch
from templates.built import Target, require_built
from templates.cache import KernelCache
from templates.device import device_spec, device_uuid
from tests.tuner.backend_contract import BackendContract
from tests.tuner.planted import Bug, plant
from tuner.backends.base import Candidate, Fidelity
from tuner.backends.gpu import MEASURER, GpuBackend
from tuner.crew import Crew
from tuner.job import Setting, job_of
from tuner.member import Deadlines
from tuning_db.records import TrialStatus, Verified

pytestmark = pytest.mark.gpu

TIER = "sm_75"
PROBLEM = GateProblem(experts=64, hidden=512, top_k=6, renormalise=True, shared=1)
FEWER = Bug("kExperts = 64", "kExperts = 60")  # the last ones are not looked at


def candidate(config: Any, bug: Bug | None = None) -> Candidate:
    variant: Variant = render(PROBLEM, config)
    target = Target.for_tier(TIER, device_spec().arch)
    built = build_batch(KernelCache(), [plant(variant, bug) if bug else variant], target)
    return Candidate(config, require_built(built[0], config))


def configs() -> list[Any]:
    """The default and two of its neighbours."""
    view = space_for("fused_gate").view(PROBLEM, device_spec())
    return [view.default(), *view.neighbours(view.default())][:3]


class TestGpuBackendOnGates(BackendContract):
    @pytest.fixture(scope="class")
    def backend(self) -> Iterator[GpuBackend]:
        with closing(GpuBackend(device_spec(), [0], TIER)) as backend:
            yield backend

    @pytest.fixture
    def problem(self) -> GateProblem:
        return PROBLEM

    @pytest.fixture
    def buckets(self) -> tuple[Bucket, Bucket]:
        return Bucket.parse("1"), Bucket.parse("4096")

    @pytest.fixture(scope="class")
    def candidates(self) -> list[Candidate]:
        return [candidate(config) for config in configs()]

    @pytest.fixture
    def failing(self) -> Candidate:
        return candidate(configs()[0], FEWER)


def test_a_wrong_gate_is_told_and_costs_no_later_trial() -> None:
    target, cache = Target.for_tier(TIER, device_spec().arch), KernelCache()
    with closing(Crew(MEASURER, {device_uuid(0): (0,)}, Deadlines(evaluate=8))) as crew:
        crew.prepare(Setting(PROBLEM, Bucket(16.0), seed=3))
        config = configs()[0]
        wrong, right = candidate(config, FEWER), candidate(config)
        found = crew.submit(job_of(wrong, target, cache), Fidelity.SHORT).result()
        assert (found.status, found.time_us) == (TrialStatus.WRONG_RESULT, None)
        after = crew.submit(job_of(right, target, cache), Fidelity.SHORT).result()
        assert (after.status, after.verified) == (TrialStatus.OK, Verified.GPU), after.error
        assert after.rel_error is not None and after.rel_error < 1e-5


def test_another_seed_draws_other_tokens() -> None:
    """Equal seeds give equal errors, others do not: what is checked is drawn anew."""
    target, cache = Target.for_tier(TIER, device_spec().arch), KernelCache()
    errors = []
    with closing(Crew(MEASURER, {device_uuid(0): (0,)}, Deadlines())) as crew:
        for seed in (3, 4, 3):
            crew.prepare(Setting(PROBLEM, Bucket(16.0), seed=seed))
            job = job_of(candidate(configs()[0]), target, cache)
            errors.append(crew.submit(job, Fidelity.SHORT).result().rel_error)
    assert errors[0] == errors[2] != errors[1]
