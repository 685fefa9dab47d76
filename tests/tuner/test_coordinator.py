"""The coordinator: limits, contenders, failed builds, many evaluations in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.problems import AnyProblem
from templates import BuildError, Built, CompilePool, Target, Variant, render
from tests.tuner.recordings import GPU, MANY, SMALL, made_up_recording
from tuner import target
from tuner.backends.base import Candidate, Fidelity, Measurement
from tuner.backends.predict import PredictBackend
from tuner.backends.replay import RecordedView, ReplayBackend
from tuner.builder import Builder, PoolBuilder, RecordedBuilder
from tuner.coordinator import Coordinator, Limits
from tuner.ledger import Ledger
from tuner.plan import Place
from tuner.storage import new_study, open_storage
from tuner.study import Study
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB

RECORDING = made_up_recording(80)


class SlowReplay(ReplayBackend):
    """A replay that takes a while, several at once, and notes what it was asked."""

    slots = 3
    seconds = 0.005

    def __init__(self) -> None:
        super().__init__(RECORDING)
        self.asked: list[tuple[str, Fidelity]] = []
        self.busy = self.most_busy = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(8)

    def submit(self, candidate: Candidate, fidelity: Fidelity) -> Future[Measurement]:
        with self._lock:
            self.asked.append((str(candidate.config), fidelity))
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        return self._threads.submit(self._answer, candidate)

    def _answer(self, candidate: Candidate) -> Measurement:
        time.sleep(self.seconds)
        with self._lock:
            self.busy -= 1
        return self._look_up(candidate)

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture
def place() -> Place:
    view = RecordedView(GROUPED_GEMM, SMALL, GPU, RECORDING.trials[SMALL, MANY])
    return Place(SMALL, MANY, target.Target(GPU), Source.REPLAYED, view)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[TuningDB]:
    with TuningDB.open(tmp_path / "t.sqlite") as opened:
        opened.gpu_id(GpuRecord(name=GPU.name, arch=GPU.arch))
        yield opened


@pytest.fixture
def backend() -> Iterator[SlowReplay]:
    slow = SlowReplay()
    slow.prepare(SMALL, MANY, 1)
    yield slow
    slow.close()


def coordinate(
    db: TuningDB, place: Place, backend: Any, builder: Builder, contender: float = 1.15
) -> Coordinator:
    run = db.begin_run("a test", {}, None, 1)
    study = Study(new_study(open_storage(db.url), place.key, run), place.view, "random", "1")
    return Coordinator(study, builder, backend, Ledger(db, run, place), contender)


def ignore(record: TrialRecord) -> None:
    pass


def test_it_stops_at_the_limit_and_each_trial_is_in_the_db(
    db: TuningDB, place: Place, backend: SlowReplay
) -> None:
    coordinator = coordinate(db, place, backend, RecordedBuilder())
    in_db: list[int] = []

    def look(record: TrialRecord) -> None:
        in_db.append(len(db.trials(SMALL, MANY, GPU.name)))

    coordinator.run([place.view.default()], Limits(Event(), trials=25), look)
    assert len(coordinator.records) == 25
    assert in_db[-1] == 25
    assert in_db == sorted(set(in_db))
    assert str(place.view.default()) in {record.config for record in coordinator.records[:3]}


def test_slots_are_filled_but_never_overfilled(
    db: TuningDB, place: Place, backend: SlowReplay
) -> None:
    builder = RecordedBuilder()
    builder.depth = 6
    backend.seconds = 0.3  # longer than the sampler needs to fill the slots
    coordinate(db, place, backend, builder).run([], Limits(Event(), trials=12), ignore)
    assert backend.most_busy == backend.slots


def test_what_is_built_does_not_wait_for_more_proposals(
    db: TuningDB, place: Place, backend: SlowReplay
) -> None:
    """However far ahead builds may run, the first one is measured before the next is asked for."""
    builder = RecordedBuilder()
    builder.depth = 32
    coordinator = coordinate(db, place, backend, builder)
    proposed: list[int] = []
    submit = builder.submit

    def note(problem: AnyProblem, config: Any) -> Future[list[Built | BuildError]]:
        proposed.append(len(backend.asked))
        return submit(problem, config)

    builder.submit = note  # type: ignore[method-assign]
    coordinator.run([], Limits(Event(), trials=10), ignore)
    assert all(asked >= before for before, asked in enumerate(proposed))


def test_only_contenders_are_timed_at_length(
    db: TuningDB, place: Place, backend: SlowReplay
) -> None:
    backend.slots = 1
    coordinator = coordinate(db, place, backend, RecordedBuilder(), contender=1.2)
    coordinator.run([], Limits(Event(), trials=40), ignore)
    at_length = {config for config, fidelity in backend.asked if fidelity is Fidelity.FULL}
    best = float("inf")
    expected = set()
    for record in coordinator.records:
        if record.time_us is not None and record.time_us <= 1.2 * best:
            expected.add(record.config)
        best = min(best, record.time_us or best)
    assert at_length == expected
    assert 0 < len(at_length) < 40


def test_a_deadline_ends_the_proposals(db: TuningDB, place: Place, backend: SlowReplay) -> None:
    coordinator = coordinate(db, place, backend, RecordedBuilder())
    end = time.monotonic() + 0.5
    limits = Limits(Event(), deadline=lambda: end)
    coordinator.run([], limits, ignore)
    assert 0 < len(coordinator.records) < place.view.count


def test_the_end_of_the_space_ends_the_search(
    db: TuningDB, place: Place, backend: SlowReplay
) -> None:
    coordinator = coordinate(db, place, backend, RecordedBuilder())
    coordinator.run([], Limits(Event()), ignore)
    assert {record.config for record in coordinator.records} == set(map(str, place.view))
    wrong = [r for r in coordinator.records if r.status is TrialStatus.WRONG_RESULT]
    assert wrong and all(record.time_us is None and record.error for record in wrong)


def test_a_stop_leaves_what_is_in_flight(db: TuningDB, place: Place, backend: SlowReplay) -> None:
    stop = Event()
    coordinator = coordinate(db, place, backend, RecordedBuilder())

    def stop_at_five(record: TrialRecord) -> None:
        if len(coordinator.records) >= 5:
            stop.set()

    coordinator.run([], Limits(stop), stop_at_five)
    assert 5 <= len(coordinator.records) <= 5 + backend.slots
    assert len(db.trials(SMALL, MANY, GPU.name)) == len(coordinator.records)


def test_a_config_that_does_not_compile_is_a_trial(db: TuningDB, tmp_path: Path) -> None:
    """One of three kernels has a mistake in it; NVRTC's log ends up beside that config only."""
    view = GROUPED_GEMM.view(SMALL, GPU)
    configs = [view.default(), *view.neighbours(view.default())[:2]]

    def render_one_badly(problem: AnyProblem, config: Any) -> Variant:
        variant = render(problem, config)
        if config != configs[1]:
            return variant
        return replace(variant, source=variant.source + "\nint not_c++;\n")

    place = Place(SMALL, MANY, target.Target(GPU), Source.PREDICTED, view)
    with CompilePool(1) as pool:
        backend = PredictBackend(GPU, "sm_75")
        backend.prepare(SMALL, MANY, 1)
        builder = PoolBuilder(pool, render_one_badly, Target.for_tier("sm_75"))
        coordinator = coordinate(db, place, backend, builder)
        coordinator.run(configs, Limits(Event(), trials=3), ignore)
    by_config = {record.config: record for record in coordinator.records}
    bad = by_config.pop(str(configs[1]))
    assert bad.status is TrialStatus.COMPILE_ERROR
    assert "error" in (bad.error or "")
    assert [record.status for record in by_config.values()] == [TrialStatus.OK] * 2
