"""Neighbours: winners of one bucket, timed in the next one as well.

A dispatcher that meets a number of rows between two tuned buckets interpolates the times of both
winners, and has to guess where one was never timed. The machine code is built already, so a place
tries the winner of the bucket below it (``guests`` of :func:`tuner.place_search.search_place`),
and its own winner goes back there for a rematch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from search_spaces.errors import UserError
from tuner.equipment import Equipment
from tuner.final import hold_final
from tuner.ledger import Ledger
from tuner.place_search import Run, store_winner
from tuner.plan import Place
from tuner.report import Outcome


def buckets_below(outcomes: Sequence[Outcome], place: Place) -> list[int]:
    """Positions of the same problem's smaller buckets on that GPU, the nearest one first.

    The places of a problem stand together, in ascending order.
    """
    wanted = place.problem, place.target
    found = [i for i, o in enumerate(outcomes) if (o.place.problem, o.place.target) == wanted]
    return found[::-1]


def winner_of(outcome: Outcome) -> list[Any]:
    """Its winning config; empty where there is none."""
    if outcome.verdict.winner is None:
        return []
    config_type = outcome.place.view.space.config_type
    return [config_type.parse(outcome.verdict.winner.config)]


def rematch(outcome: Outcome, guests: Sequence[Any], run: Run, equipment: Equipment) -> Outcome:
    """The place's winner and default against ``guests``: times that compare.

    Should a guest win, it is the winner from now on. Nothing is done, and the very same outcome
    returned, where all of them were tried before or are not valid, and where nobody won.
    """
    place, backend = outcome.place, equipment.backend
    ledger = Ledger(run.db, run.id, place)
    tried = {record.config for record in outcome.records} | ledger.last_final().keys()
    new = [g for g in guests if str(g) not in tried and not place.view.explain(g)]
    own = winner_of(outcome)
    if not own or not new:
        return outcome
    seed = place.seed(run.plan.seed, f"rematch with {new}")
    try:
        backend.prepare(place.problem, place.bucket, seed)
    except UserError as error:
        run.progress.note(f"{place.problem.label} {place.bucket}: no rematch, {error}")
        return outcome
    configs = list(dict.fromkeys([*own, place.view.default(), *new]))
    verdict = hold_final(configs, equipment.builder, backend, ledger, seed)
    if verdict.winner is None or verdict.winner.config == str(own[0]):
        return outcome
    return replace(outcome, verdict=verdict, stored=store_winner(verdict, place, run.db))
