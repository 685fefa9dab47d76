"""The backends that need no GPU keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from search_spaces import Bucket, Problem, UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.gate_space import FUSED_GATE
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from templates import Built, CompilePool, Target, render
from tests.tuner.backend_contract import BackendContract
from tests.tuner.recordings import GPU, MANY, ONE, SMALL, made_up_recording
from tuner.backends.base import Candidate, Fidelity
from tuner.backends.checked import CheckedBackend
from tuner.backends.predict import PredictBackend
from tuner.backends.replay import RecordedView, ReplayBackend
from tuner.builder import PoolBuilder, RecordedBuilder
from tuner.emulation_check import EmulationCheck
from tuning_db import Source, TrialStatus, Verified

CONFIGS = (
    "64x64x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1",
    "128x64x32_w2x2x1_s2_sw2.3.3_f16p4_r1x8_mn_ca_o1_g8_k1",
)
GATE = GateProblem(experts=16, hidden=64, top_k=4)
FMA_GATE = "fma8x4x256_w2x2x1_s1_te_k1_l4_pass"


@pytest.fixture
def problem() -> Problem:
    return SMALL


@pytest.fixture
def buckets() -> tuple[Bucket, Bucket]:
    return ONE, Bucket(4096.0)


@pytest.fixture(scope="module")
def built() -> list[Candidate]:
    """Two configs, compiled for real."""
    configs = [GROUPED_GEMM.config_type.parse(name) for name in CONFIGS]
    with CompilePool(1) as pool:
        results = pool.build([render(SMALL, c) for c in configs], Target.for_tier("sm_75"))
    candidates = []
    for config, result in zip(configs, results, strict=True):
        assert isinstance(result, Built), result
        candidates.append(Candidate(config, result))
    return candidates


def spilling(good: Candidate) -> Candidate:
    """What the compiler reports of a kernel that does not fit the registers."""
    binary = good.built.binaries["sm_75"]
    spilled = replace(binary, resources=replace(binary.resources, spill_stores=64))
    return Candidate(good.config, replace(good.built, binaries={"sm_75": spilled}))


class TestPredict(BackendContract):
    @pytest.fixture
    def backend(self) -> Iterator[PredictBackend]:
        yield PredictBackend(GPU, "sm_75")

    @pytest.fixture
    def candidates(self, built: list[Candidate]) -> list[Candidate]:
        return built

    @pytest.fixture
    def failing(self, built: list[Candidate]) -> Candidate:
        return spilling(built[0])

    def test_a_price_is_labelled_as_one(self, candidates: list[Candidate]) -> None:
        backend = PredictBackend(GPU, "sm_75")
        backend.prepare(SMALL, MANY, 7)
        measured = backend.submit(candidates[0], Fidelity.FULL).result()
        assert (measured.source, measured.verified) == (Source.PREDICTED, Verified.NONE)

    def test_two_runs_agree_whatever_their_seeds(self, candidates: list[Candidate]) -> None:
        times = []
        for seed in (1, 2):
            backend = PredictBackend(GPU, "sm_75")
            backend.prepare(SMALL, Bucket.parse("16@zipf:1.2"), seed)
            times.append(backend.submit(candidates[0], Fidelity.SHORT).result().time_us)
        assert times[0] == times[1]


@pytest.fixture(scope="module")
def built_gates() -> list[Candidate]:
    """Two gates of one model's router, compiled for real."""
    view = FUSED_GATE.view(GATE, GPU)
    configs = [view.default(), FUSED_GATE.config_type.parse(FMA_GATE)]
    with CompilePool(1) as pool:
        results = pool.build([render(GATE, c) for c in configs], Target.for_tier("sm_75"))
    assert all(isinstance(result, Built) for result in results), results
    pairs = zip(configs, results, strict=True)
    return [Candidate(config, result) for config, result in pairs if isinstance(result, Built)]


class TestPredictedGates(BackendContract):
    @pytest.fixture
    def problem(self) -> GateProblem:
        return GATE

    @pytest.fixture
    def backend(self) -> PredictBackend:
        return PredictBackend(GPU, "sm_75")

    @pytest.fixture
    def candidates(self, built_gates: list[Candidate]) -> list[Candidate]:
        return built_gates

    @pytest.fixture
    def failing(self, built_gates: list[Candidate]) -> Candidate:
        return spilling(built_gates[0])

    def test_its_finalists_are_proved(self, built_gates: list[Candidate]) -> None:
        with CompilePool(1) as pool:
            builder = PoolBuilder(pool, render, Target.for_tier("sm_75"))
            backend = CheckedBackend(PredictBackend(GPU, "sm_75"), EmulationCheck(builder))
            backend.prepare(GATE, ONE, 1)
            found = backend.finals(built_gates, 2)
        assert [one.config for one in found] == [one.config for one in built_gates]
        for one in found:
            assert (one.status, one.verified) == (TrialStatus.OK, Verified.EMULATED)
            assert one.rel_error is not None and 0 < one.rel_error < 1e-5


def recorded(config: Any) -> Candidate:
    [result] = RecordedBuilder().submit(SMALL, config).result()
    assert isinstance(result, Built)
    return Candidate(config, result)


class TestReplay(BackendContract):
    RECORDING = made_up_recording(30, failing=0.3)
    TRIALS = RECORDING.trials[SMALL, ONE]

    @pytest.fixture
    def buckets(self) -> tuple[Bucket, Bucket]:
        return ONE, MANY

    @pytest.fixture
    def backend(self) -> ReplayBackend:
        return ReplayBackend(self.RECORDING)

    @pytest.fixture
    def candidates(self) -> list[Candidate]:
        return [self.candidate(TrialStatus.OK, number) for number in range(3)]

    @pytest.fixture
    def failing(self) -> Candidate:
        return self.candidate(TrialStatus.WRONG_RESULT, 0)

    def candidate(self, status: TrialStatus, number: int) -> Candidate:
        names = [name for name, trial in self.TRIALS.items() if trial.status is status]
        return recorded(GROUPED_GEMM.config_type.parse(names[number]))

    def test_the_optimum_is_the_best_recorded_time(self, backend: ReplayBackend) -> None:
        backend.prepare(SMALL, ONE, 1)
        times = [trial.time_us for trial in self.TRIALS.values() if trial.time_us]
        assert backend.optimum_us() == min(times)

    def test_what_was_not_recorded_cannot_be_replayed(self, backend: ReplayBackend) -> None:
        with pytest.raises(UserError, match=r"no trials of .* at 2@uniform"):
            backend.prepare(SMALL, Bucket(2.0), 1)

    def test_without_the_default_its_nearest_recorded_config_stands_in(self) -> None:
        full = GROUPED_GEMM.view(SMALL, GPU).default()
        others = [name for name in self.TRIALS if name != str(full)]
        near = replace(full, group_m=4)
        view = RecordedView(GROUPED_GEMM, SMALL, GPU, [*others, str(near)])
        assert view.default() == near
