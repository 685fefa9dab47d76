"""PlaceSearch: one place from its study to its stored winner."""

from __future__ import annotations

import random
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import optuna

from search_spaces.errors import UserError
from tuner.backends.checked import CheckedBackend
from tuner.backends.replay import ReplayBackend
from tuner.coordinator import Coordinator, Limits
from tuner.equipment import Equipment
from tuner.final import Verdict, choose_winner, finalists, hold_final, provisional
from tuner.ledger import Ledger
from tuner.plan import Place, Plan
from tuner.progress import SearchProgress
from tuner.report import Outcome
from tuner.storage import last_study, new_study
from tuner.study import Study
from tuner.warm_start import warm_start
from tuning_db.records import TrialRecord, Verified, Winner
from tuning_db.store import TuningDB


@dataclass(frozen=True)
class Run:
    """What all places of a run share. ``studies`` by place: a new run's own; none on resume."""

    plan: Plan
    id: int
    db: TuningDB
    storage: optuna.storages.RDBStorage
    progress: SearchProgress
    studies: Mapping[str, optuna.Study]


def search_place(
    place: Place, run: Run, equipment: Equipment, limits: Limits, guests: Sequence[Any] = ()
) -> Outcome:
    """Searches, holds the final and stores the winner.

    ``guests``, winners of neighbouring buckets, are tried early and meet the winner in the final:
    between buckets a dispatcher weighs times of both. A place whose final was held is only reported
    again, unless more trials are asked for now.
    """
    ledger = Ledger(run.db, run.id, place)
    study, records = _open_study(place, run, ledger)
    total = None if limits.trials is None else min(limits.trials, place.view.count)
    best = provisional(records).winner
    run.progress.begin(place, total, len(records), best.time_us if best else None)
    if study.decided and total is not None and len(records) >= total:
        verdict = choose_winner(ledger.last_final())
        return Outcome(place, tuple(records), verdict, stored=True)
    backend = equipment.backend
    known = [config for config in guests if not place.view.explain(config)]
    left = None if total is None else max(0, total - len(records))
    if limits.over():  # only the final is held
        left = 0
    first, ready = _prepare(place, run.plan, equipment, known, study.tried, left)
    try:
        ready.result()
    except UserError as error:  # too large for this card: the other places may fit
        return Outcome(place, tuple(records), Verdict(None, None), skipped=str(error))
    effort = run.plan.options.effort
    coordinator = Coordinator(study, equipment.builder, backend, ledger, effort.contender, records)
    coordinator.run(first, limits, run.progress.trial)
    incumbent = _incumbent(place, run.db)
    seed = place.seed(run.plan.seed, "final")
    if limits.stop.is_set():
        verdict = _interrupted(coordinator.records, equipment, ledger, seed)
        stored = _beats(verdict, incumbent, ledger) and store_winner(verdict, place, run.db)
    else:
        late = [place.view.default(), *known]
        configs = finalists(coordinator.records, effort.finalists, late, incumbent)
        verdict = hold_final(configs, equipment.builder, backend, ledger, seed)
        stored = store_winner(verdict, place, run.db)
        study.close()
    optimum = backend.optimum_us() if isinstance(backend, ReplayBackend) else None
    return Outcome(place, tuple(coordinator.records), verdict, stored, optimum_us=optimum)


def _prepare(
    place: Place,
    plan: Plan,
    equipment: Equipment,
    guests: Sequence[Any],
    tried: Container[Any],
    left: int | None,
) -> tuple[list[Any], Future[None]]:
    """What to try first, ranked and on its way to the compilers while the cards make their inputs.

    ``left`` is how many trials are; without any, nothing is ranked. The future is done; it raises
    UserError when inputs do not fit.
    """
    backend, builder = equipment.backend, equipment.builder
    with ThreadPoolExecutor(1) as aside:
        seed = place.seed(plan.seed, "search")
        ready = aside.submit(backend.prepare, place.problem, place.bucket, seed)
        wanted = {} if left == 0 else dict.fromkeys(_first(place, plan, guests))
        first = [config for config in wanted if config not in tried]
        for config in first[:left][: builder.depth]:
            builder.submit(place.problem, config)  # asked for again, it is there or under way
    return first, ready


def _open_study(place: Place, run: Run, ledger: Ledger) -> tuple[Study, list[TrialRecord]]:
    """The place's study with the trials it had: none for a new run, the last ones on resume."""
    past = ledger.past() if run.plan.options.resume else []
    found = run.studies.get(place.key)
    if found is None:
        known = {record.config for record in past}
        found = last_study(run.storage, place.key, place.view, known, run.id)
    if found is None:
        found = new_study(run.storage, place.key, past[0].run_id if past else run.id)
    # A resumed search must not draw the same numbers again.
    seed = f"{place.seed(run.plan.seed, 'sampler')} {len(past)}"
    study = Study(found, place.view, run.plan.options.sampler, seed)
    records = [record for record in past if record.run_id >= study.first_run]
    study.reconcile(records)
    return study, records


def _first(place: Place, plan: Plan, guests: Sequence[Any]) -> list[Any]:
    """The default, what the user named, guests, and if guided what the cost model thinks best."""
    first = [place.view.default(), *place.extra, *guests]
    if plan.options.sampler != "tpe":
        return first
    rng = random.Random(place.seed(plan.seed, "warm start"))
    return first + warm_start(place, plan.options.effort, rng)


def _interrupted(
    records: Sequence[TrialRecord], equipment: Equipment, ledger: Ledger, seed: int
) -> Verdict:
    """Search times alone decide, unless the best is to be proved and no GPU has done so."""
    verdict = provisional(records)
    proves = isinstance(equipment.backend, CheckedBackend)
    if verdict.winner is None or verdict.winner.verified is not Verified.NONE or not proves:
        return verdict
    best = type(ledger.default).parse(verdict.winner.config)
    configs = list(dict.fromkeys([best, ledger.default]))
    return hold_final(configs, equipment.builder, equipment.backend, ledger, seed)


def _incumbent(place: Place, db: TuningDB) -> Winner | None:
    """The present winner, if its config is still a valid one."""
    winner = db.winner(place.problem, place.bucket, place.target.gpu.name)
    if winner is None:
        return None
    config = place.view.space.config_type.parse(winner.trial.config)
    return None if place.view.explain(config) else winner


def _beats(verdict: Verdict, incumbent: Winner | None, ledger: Ledger) -> bool:
    """Whether an interrupted search found something better than what was known.

    Only a time from the same source and template compares.
    """
    if verdict.winner is None or incumbent is None:
        return verdict.winner is not None
    old, new = incumbent.trial, verdict.winner
    comparable = old.source is new.source and old.template_hash == ledger.template
    if not comparable or old.time_us is None or new.time_us is None:
        return True
    return new.time_us < old.time_us


def store_winner(verdict: Verdict, place: Place, db: TuningDB) -> bool:
    """Whether the verdict's winner is the place's now: one from a better source stays."""
    winner = verdict.winner
    if winner is None or winner.id is None:
        return False
    return db.set_winner(place.problem, place.bucket, place.target.gpu.name, winner.id)
