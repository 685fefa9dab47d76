"""LayerStage: the layer as a whole, after its parts were searched: which configs together are best.

All candidates of a bucket are measured in turns by one child process. Where there is no GPU a
layer's time is the sum of what its parts were predicted to take, and no child is started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event

from search_spaces.errors import UserError
from search_spaces.layer import LayerConfig
from templates.device import device_uuid
from tuner.backends.base import Measurement
from tuner.card import Card, CardState
from tuner.final import Verdict, choose_winner
from tuner.layer_candidates import Contenders, candidates, contenders, part_times
from tuner.layer_child import LayerChild, Question, Stopped
from tuner.layer_place import LayerPlace, layer_places
from tuner.ledger import Ledger
from tuner.place_search import Run
from tuner.plan import Plan
from tuner.report import Outcome
from tuner.target import Target
from tuning_db.records import Source, TrialRecord, TrialStatus, Verified
from tuning_db.url import ENVIRONMENT

SECONDS = 12.0  # a bucket: Python, torch and CUDA start in a child, a layer is made, ten checks
MOST = 0.5  # of a run's minutes is kept for layers: without winners of parts there is nothing
NOBODY = Verdict(None, None)
NO_TIME = "its minutes are over: give more with --minutes, or go on with --resume"


@dataclass(frozen=True)
class LayerOutcome:
    """What became of a layer in one bucket; ``skipped`` says why it could not be measured.

    ``part_times`` are microseconds of the winner's parts, each timed by itself in this search.
    """

    place: LayerPlace
    records: tuple[TrialRecord, ...] = ()
    verdict: Verdict = NOBODY
    stored: bool = False
    part_times: tuple[float, ...] | None = None
    skipped: str | None = None

    @property
    def config(self) -> LayerConfig | None:
        """The winner's, if there is one."""
        winner = self.verdict.winner
        return None if winner is None else LayerConfig.parse(winner.config)


def reserved_for_layers(plan: Plan, searched: float) -> float:
    """How many places' worth of a run's minutes is kept for whole layers that are measured, where
    searches are worth ``searched`` places."""
    minutes = plan.options.effort.minutes
    if minutes is None:
        return 0.0
    measured = (target for target in plan.targets if target.cards)
    wanted = SECONDS * sum(len(layer_places(plan, target)) for target in measured)
    share = min(wanted / (60 * minutes), MOST)
    return searched * share / (1 - share)


def search_layers(
    outcomes: Sequence[Outcome],
    target: Target,
    run: Run,
    stop: Event,
    over: Callable[[], bool] = lambda: False,
) -> list[LayerOutcome]:
    """Measures every bucket of the plan's layer on one GPU model, and stores who won.

    The cards are to be free: what was searched on them is over. An interrupted bucket leaves
    nothing behind, and ``--resume`` begins it anew; none is measured any more once the run's time
    is ``over``.
    """
    found: list[LayerOutcome] = []
    guest = None
    for place in layer_places(run.plan, target):
        try:
            found.append(_search(place, outcomes, guest, run, stop, over))
            guest = found[-1].config or guest
        except Stopped:
            break
        except UserError as error:  # too large for this card: the other buckets may fit
            found.append(LayerOutcome(place, skipped=str(error)))
    return found


def _search(
    place: LayerPlace,
    outcomes: Sequence[Outcome],
    guest: LayerConfig | None,
    run: Run,
    stop: Event,
    over: Callable[[], bool],
) -> LayerOutcome:
    if stop.is_set():
        raise Stopped
    by_place = {outcome.place: outcome for outcome in outcomes}
    parts = [contenders(by_place[part], run) for part in place.parts]
    for part, found in zip(place.parts, parts, strict=True):
        if not found:
            raise UserError(f"no config of {part.problem.label} {part.bucket} works")
    ledger = Ledger(run.db, run.id, place)
    configs = candidates(place, parts, guest, _present(place, run))
    final = ledger.last_final()
    held = run.plan.options.resume and final.keys() >= {str(config) for config in configs}
    if not held and place.source is Source.MEASURED and over():
        return LayerOutcome(place, skipped=NO_TIME)
    if not held:
        records = map(ledger.whole, _judge(place, configs, parts, run, stop))
        final = {record.config: [record] for record in records}
    verdict = choose_winner(final)
    outcome = LayerOutcome(
        place,
        records=tuple(record for each in final.values() for record in each),
        verdict=verdict,
        stored=held or _store(place, verdict, run),
    )
    best = outcome.config
    return outcome if best is None else replace(outcome, part_times=part_times(best, parts))


def _present(place: LayerPlace, run: Run) -> LayerConfig | None:
    """The present winner's config, if it comes from such a source and still is a valid one."""
    winner = run.db.winner(place.problem, place.bucket, place.target.gpu.name)
    if winner is None or winner.trial.source is not place.source:
        return None
    config = LayerConfig.parse(winner.trial.config)
    return None if place.view.explain(config) else config


def _store(place: LayerPlace, verdict: Verdict, run: Run) -> bool:
    winner = verdict.winner
    if winner is None or winner.id is None:
        return False
    return run.db.set_winner(place.problem, place.bucket, place.target.gpu.name, winner.id)


def _judge(
    place: LayerPlace,
    configs: Sequence[LayerConfig],
    parts: Sequence[Contenders],
    run: Run,
    stop: Event,
) -> list[Measurement]:
    if place.source is Source.PREDICTED:
        return [_predicted(config, parts) for config in configs]
    return _measured(place, configs, run, stop)


def _predicted(config: LayerConfig, parts: Sequence[Contenders]) -> Measurement:
    """The sum of what the parts were predicted to take; proved if all of them are."""
    records = [part[str(name)] for name, part in zip(config.parts, parts, strict=True)]
    proved = all(record.verified is Verified.EMULATED for record in records)
    return Measurement(
        config,
        TrialStatus.OK,
        Source.PREDICTED,
        Verified.EMULATED if proved else Verified.NONE,
        time_us=sum(record.time_us or 0.0 for record in records),
        spread_us=0.0,
    )


def _measured(
    place: LayerPlace, configs: Sequence[LayerConfig], run: Run, stop: Event
) -> list[Measurement]:
    """What a child on the first card finds. Raises UserError when it cannot begin, and Stopped."""
    number = place.target.cards[0]
    run.progress.note(
        f"{place.problem.label} {place.bucket}: {len(configs)} whole layers, timed in turns"
    )
    card, state = Card(device_uuid(number)), CardState()

    def watch(child: int) -> None:
        nonlocal state  # the last one is of the race, which comes last
        state = card.state([child])

    question = Question(
        problem=place.problem,
        tokens=place.bucket.tokens(place.problem),
        skew=place.bucket.skew,
        seed=place.seed(run.plan.seed),
        device=str(number),
    )
    child = LayerChild(stop.is_set, watch, {ENVIRONMENT: run.plan.db_url})
    findings = child.measure(question, [str(config) for config in configs])
    return [
        Measurement(
            config,
            finding.status,
            Source.MEASURED,
            Verified.GPU if finding.rel_error is not None else Verified.NONE,
            time_us=finding.time_us,
            spread_us=finding.spread_us,
            rel_error=finding.rel_error,
            error=finding.error,
            sm_clock_mhz=state.sm_clock_mhz,
            temperature_c=state.temperature_c,
            gpu_busy=state.busy,
            gpu_uuid=card.uuid,
        )
        for config, finding in zip(configs, findings, strict=True)
    ]
