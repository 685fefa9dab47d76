"""GpuBackend on a real card: the contract of every backend, and kernels planted to go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from search_spaces import Bucket, Problem, space_for
from templates.build import build_batch
from templates.built import Built, Target
from templates.cache import KernelCache
from templates.device import device_spec, device_uuid
from templates.grouped_gemm import render
from tests.tuner.backend_contract import BackendContract
from tuner.backends.base import Candidate, Fidelity, Measurement
from tuner.backends.gpu import MEASURER, GpuBackend
from tuner.crew import Crew
from tuner.job import Setting, job_of
from tuner.member import Deadlines
from tuning_db.records import TrialStatus, Verified

pytestmark = pytest.mark.gpu

TIER = "sm_75"
PROBLEM = Problem("grouped_gemm", experts=8, n=1024, k=1024, top_k=2)
BUCKET = Bucket.parse("16@zipf:1.2")
SIGNATURE = (
    "(cute::half_t const* a, cute::half_t const* b, cute::half_t* c, int const* offsets, "
    "int const* row_tokens, float* workspace, int* counters, int experts, int m_tiles, "
    "int group_m, int split_k)"
)
PLANTED = {
    "writes nothing": "",
    "writes zeros": f"""
  int const rows = offsets[experts];
  for (int i = threadIdx.x; blockIdx.x == 0 && i < rows * {PROBLEM.n}; i += blockDim.x)
    c[i] = cute::half_t(0.0f);""",
    "writes beyond C": f"""
  int const rows = offsets[experts] + 1;
  for (int i = threadIdx.x; blockIdx.x == 0 && i < rows * {PROBLEM.n}; i += blockDim.x)
    c[i] = cute::half_t(0.0f);""",
    "reads a wild address": """
  c[threadIdx.x] = *reinterpret_cast<cute::half_t const*>(0x10);""",
    "never ends": """
  while (*reinterpret_cast<int const volatile*>(offsets) == 0) {}""",
}


def build(problem: Problem, count: int) -> list[Candidate]:
    """The default and some of its neighbours."""
    view = space_for(problem.op).view(problem, device_spec())
    configs = [view.default(), *view.neighbours(view.default())][:count]
    target = Target.for_tier(TIER, device_spec().arch)
    built = build_batch(KernelCache(), [render(problem, config) for config in configs], target)
    assert all(isinstance(one, Built) for one in built), built
    return [Candidate(c, b) for c, b in zip(configs, built, strict=True) if isinstance(b, Built)]


def plant(name: str) -> Candidate:
    """A kernel that takes the default's launch and does something else."""
    [candidate] = build(PROBLEM, 1)
    entry = "lm_planted_" + name.replace(" ", "_")
    source = f'extern "C" __global__ void {entry}{SIGNATURE} {{{PLANTED[name]}\n}}'
    variant = replace(candidate.built.variant, entry=entry, source=source)
    target = Target.for_tier(TIER, device_spec().arch)
    [built] = build_batch(KernelCache(), [variant], target)
    assert isinstance(built, Built), built
    return Candidate(candidate.config, built)


class TestGpuBackend(BackendContract):
    # One for all: a worker takes seconds to start. What a test does to it is mended by respawning.
    @pytest.fixture(scope="class")
    def backend(self) -> Iterator[GpuBackend]:
        with closing(GpuBackend(device_spec(), [0], TIER)) as backend:
            yield backend

    @pytest.fixture
    def problem(self) -> Problem:
        return PROBLEM

    @pytest.fixture
    def buckets(self) -> tuple[Bucket, Bucket]:
        return Bucket.parse("4"), Bucket.parse("1024")

    @pytest.fixture(scope="class")
    def candidates(self) -> list[Candidate]:
        return build(PROBLEM, 3)

    @pytest.fixture
    def failing(self) -> Candidate:
        return plant("reads a wild address")


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    made = Crew(MEASURER, {device_uuid(0): (0,)}, Deadlines(evaluate=8))
    made.prepare(Setting(PROBLEM, BUCKET, seed=3))
    yield made
    made.close()


def measure(crew: Crew, candidate: Candidate) -> Measurement:
    target = Target.for_tier(TIER, device_spec().arch)
    job = job_of(candidate, target, KernelCache())
    return crew.submit(job, Fidelity.SHORT).result()


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("writes nothing", TrialStatus.WRONG_RESULT, "C[0, 0] was never written"),
        ("writes zeros", TrialStatus.WRONG_RESULT, "elements are wrong"),
        ("writes beyond C", TrialStatus.WRONG_RESULT, "memory beyond C was written (guard row 0"),
        ("reads a wild address", TrialStatus.LAUNCH_ERROR, "illegal memory access"),
        ("never ends", TrialStatus.TIMEOUT, "no end within 8 s"),
    ],
)
def test_planted_mistakes_are_told_apart_and_cost_no_later_trial(
    crew: Crew, name: str, status: TrialStatus, reason: str
) -> None:
    found = measure(crew, plant(name))
    assert found.status is status
    assert reason in str(found.error)
    assert found.time_us is None
    assert found.gpu_uuid == device_uuid(0)
    [good] = build(PROBLEM, 1)
    after = measure(crew, good)
    assert after.status is TrialStatus.OK, after.error
    assert after.verified is Verified.GPU


def test_a_trial_says_how_warm_the_card_was(crew: Crew) -> None:
    [good] = build(PROBLEM, 1)
    found = measure(crew, good)
    assert found.sm_clock_mhz is not None and found.sm_clock_mhz > 100
    assert found.temperature_c is not None and 0 < found.temperature_c < 120
    assert found.rel_error is not None and found.rel_error < 1e-3


def test_equal_seeds_give_equal_errors_after_a_crash(crew: Crew) -> None:
    [good] = build(PROBLEM, 1)
    before = measure(crew, good)
    assert measure(crew, plant("reads a wild address")).status is TrialStatus.LAUNCH_ERROR
    assert measure(crew, good).rel_error == before.rel_error
