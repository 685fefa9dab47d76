"""Session: one run of the search over all its places."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from threading import Event

from tuner.clock import Clock
from tuner.coordinator import Limits
from tuner.equipment import Equipment, equip
from tuner.layer_stage import LayerOutcome, reserved_for_layers, search_layers
from tuner.neighbours import buckets_below, rematch, winner_of
from tuner.place_search import Run, search_place
from tuner.plan import Place, Plan
from tuner.progress import SearchProgress
from tuner.provenance import git_revision, versions
from tuner.report import Outcome
from tuner.split import reserved, split_buckets
from tuner.storage import new_study, open_storage
from tuner.target import Target
from tuning_db.regret import Regret
from tuning_db.store import TuningDB


@dataclass(frozen=True)
class Session:
    """What a run came to. ``status`` is ``finished`` or ``interrupted``."""

    run_id: int
    status: str
    outcomes: tuple[Outcome, ...]
    regrets: tuple[Regret, ...] = ()
    layers: tuple[LayerOutcome, ...] = ()


def run_session(plan: Plan, command: str, progress: SearchProgress, stop: Event) -> Session:
    """Searches every place of the plan, in order, and stores what it finds.

    The DB is opened once all else is known to work, so that a bad command leaves none behind.
    Raises UserError for anything missing or unusable.
    """
    outcomes: list[Outcome] = []
    run: Run | None = None
    effort = plan.options.effort
    searched = len(plan.places) + reserved(plan)
    clock = Clock(effort.minutes, searched + reserved_for_layers(plan, searched))
    regrets: list[Regret] = []
    layers: list[LayerOutcome] = []
    try:
        for target in plan.targets:
            with equip(target, plan.options, plan.recording) as equipment:
                run = run or _begin(plan, command, progress)
                _book(run.db, equipment)
                for place in _places(plan, target):
                    if not stop.is_set():
                        clock.begin()
                        limits = Limits(stop, effort.trials, clock.deadline, clock.over)
                        _search(place, outcomes, run, equipment, limits)
                regrets += split_buckets(
                    outcomes, target, run, equipment, lambda: stop.is_set() or clock.over()
                )
            layers += search_layers(outcomes, target, run, stop, clock.over)
    except BaseException as error:
        if run is not None:
            _end(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    assert run is not None, "a plan has places"
    status = "interrupted" if stop.is_set() else "finished"
    _end(run, status)
    return Session(run.id, status, tuple(outcomes), tuple(regrets), tuple(layers))


def _search(
    place: Place, outcomes: list[Outcome], run: Run, equipment: Equipment, limits: Limits
) -> None:
    """Adds the place's outcome; its winner goes on to smaller buckets for as long as it wins."""
    below = buckets_below(outcomes, place)
    guests = winner_of(outcomes[below[0]]) if below else []
    outcome = search_place(place, run, equipment, limits, guests)
    for index in below:
        if limits.stop.is_set():
            break
        before = outcomes[index]
        outcomes[index] = rematch(before, winner_of(outcome), run, equipment)
        if outcomes[index] is before:
            break
    outcomes.append(outcome)


def _begin(plan: Plan, command: str, progress: SearchProgress) -> Run:
    db = TuningDB.open(plan.db_url, create=not plan.options.resume)
    storage = open_storage(plan.db_url)
    run_id = db.begin_run(command, versions(), git_revision(), plan.seed, alone=plan.options.resume)
    # For all places at once: if this run is killed, --resume is about all of them.
    places = () if plan.options.resume else plan.places
    studies = {place.key: new_study(storage, place.key, run_id) for place in places}
    return Run(plan, run_id, db, storage, progress, studies)


def _book(db: TuningDB, equipment: Equipment) -> None:
    for gpu in equipment.gpus:
        db.gpu_id(gpu)


def _places(plan: Plan, target: Target) -> list[Place]:
    return [place for place in plan.places if place.target == target]


def _end(run: Run, status: str) -> None:
    with closing(run.db):
        run.db.end_run(run.id, status)
    run.storage.engine.dispose()
