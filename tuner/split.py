"""Split: buckets whose winner loses too much at the edge of its range get one more between them.

A bucket's winner was chosen at one number of tokens per expert and answers for a range of them. At
the edge, halfway to the next bucket, a final is held among the winners and runners-up of both. What
one of the winners loses there on the best is its regret. Where it is too much, the edge becomes a
bucket with that final's winner, and the two gaps this leaves are looked at in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from search_spaces.bucket import bucket_between
from search_spaces.errors import UserError
from tuner.equipment import Equipment
from tuner.final import Verdict, best_trials, choose_winner, hold_final
from tuner.ledger import Ledger
from tuner.place_search import Run, store_winner
from tuner.plan import Place, Plan, recorded_view
from tuner.report import Outcome
from tuner.target import Target
from tuner.view import View
from tuning_db.records import Winner
from tuning_db.regret import Regret, regrets, regrets_at

# A final at an edge takes about as long as a quarter of a place's search and final.
EDGE = 0.25


def reserved(plan: Plan) -> float:
    """How many places' worth of a run's minutes is kept for edges."""
    splitting = (
        place
        for place in plan.places
        if plan.options.splits_above(measured=bool(place.target.cards)) is not None
    )
    return EDGE * sum(1 for _ in splitting)


def split_buckets(
    outcomes: list[Outcome],
    target: Target,
    run: Run,
    equipment: Equipment,
    done: Callable[[], bool],
) -> list[Regret]:
    """Adds the new buckets of a searched target to ``outcomes``, and tells every regret there.

    Nothing where the options do not ask for it. Stops early when ``done`` says so.
    """
    most = run.plan.options.splits_above(measured=bool(target.cards))
    if most is None:
        return []
    splitter = Splitter(run, equipment, most, done)
    own = [outcome for outcome in outcomes if outcome.place.target == target]
    outcomes[:] = [o for o in outcomes if o.place.target != target] + splitter.split(own)
    problems = dict.fromkeys(outcome.place.problem for outcome in own)
    return [found for problem in problems for found in regrets(run.db, problem, target.gpu.name)]


@dataclass(frozen=True)
class Splitter:
    """Splits where a regret is above ``most`` (0.03: 3 %), until ``done`` says that it is time."""

    run: Run
    equipment: Equipment
    most: float
    done: Callable[[], bool]

    def split(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes of one GPU model, problem by problem, with those of new buckets."""
        found: list[Outcome] = []
        for _, group in groupby(outcomes, key=lambda o: (o.place.problem, o.place.bucket.skew)):
            line = sorted(group, key=lambda o: o.place.bucket.tokens_per_expert)
            found.append(line[0])
            for low, high in pairwise(line):
                found += [*self._between(low, high), high]
        return found

    def _between(self, low: Outcome, high: Outcome) -> list[Outcome]:
        """New buckets of the gap, ascending."""
        if self.done():
            return []
        place = self._edge(low.place, high.place)
        below, above = self._present(low.place), self._present(high.place)
        if place is None or below is None or above is None:
            return []
        middle = self._judge(place, (low, high), (below, above))
        if middle is None:
            return []
        return [*self._between(low, middle), middle, *self._between(middle, high)]

    def _edge(self, low: Place, high: Place) -> Place | None:
        """The place between; a recording can be asked only about what it holds."""
        bucket = bucket_between(low.problem, low.bucket, high.bucket)
        if bucket is None:
            return None
        view: View | None = low.view
        if self.run.plan.recording is not None:
            view = recorded_view(self.run.plan.recording, low.problem, bucket)
        return replace(low, bucket=bucket, view=view) if view is not None else None

    def _present(self, place: Place) -> Winner | None:
        """The place's winner, unless it comes from another source than this run."""
        winner = self.run.db.winner(place.problem, place.bucket, place.target.gpu.name)
        return winner if winner is not None and winner.trial.source is place.source else None

    def _judge(
        self, place: Place, around: tuple[Outcome, Outcome], ends: tuple[Winner, Winner]
    ) -> Outcome | None:
        """Holds the edge's final; its outcome if it is to be a bucket."""
        ledger = Ledger(self.run.db, self.run.id, place)
        present = self._present(place)
        winners = ends if present is None else (*ends, present)
        candidates = self._candidates(place, around, winners)
        try:
            verdict = self._final(place, ledger, candidates)
        except UserError as error:  # too large for this card
            self.run.progress.note(f"{place.problem.label} {place.bucket}: not compared, {error}")
            return None
        gpu_name = place.target.gpu.name
        losses = regrets_at(self.run.db, place.problem, place.bucket, gpu_name, ends)
        self._tell(place, losses)
        worst = max((loss.share for loss in losses), default=0.0)
        if verdict.winner is None or (worst <= self.most and present is None):
            return None
        stored = store_winner(verdict, place, self.run.db)
        records = [record for each in ledger.last_final().values() for record in each]
        return Outcome(place, tuple(records), verdict, stored)

    def _candidates(
        self, place: Place, around: Sequence[Outcome], winners: Sequence[Winner]
    ) -> list[Any]:
        """Both winners, the best of both searches and the default, as far as they are valid."""
        parse, most = place.view.space.config_type.parse, self.run.plan.options.effort.finalists
        names = [winner.trial.config for winner in winners]
        for outcome in around:
            names += [record.config for record in best_trials(outcome.records, most)]
        configs = dict.fromkeys([*map(parse, names), place.view.default()])
        return [config for config in configs if not place.view.explain(config)]

    def _final(self, place: Place, ledger: Ledger, candidates: Sequence[Any]) -> Verdict:
        """On resume one that was held among all of these is not held again."""
        held = ledger.last_final()
        if self.run.plan.options.resume and held.keys() >= set(map(str, candidates)):
            return choose_winner(held)
        seed = place.seed(self.run.plan.seed, "edge")
        self.equipment.backend.prepare(place.problem, place.bucket, seed)
        return hold_final(candidates, self.equipment.builder, self.equipment.backend, ledger, seed)

    def _tell(self, place: Place, losses: Sequence[Regret]) -> None:
        for loss in losses:
            lost = f"loses {100 * loss.share:.1f} %" if loss.time_us else "does not work"
            where = f"{place.problem.label} {place.bucket}"
            self.run.progress.note(f"{where}: the winner of {loss.bucket} {lost} here")
