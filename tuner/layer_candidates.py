"""LayerCandidates: the configs of a layer that are worth measuring, after its parts' searches.

The fastest parts need not make the fastest layer: a GEMM leaves the L2 to the next one as it
pleases, and a gate's time is noise beside theirs. So the winning gate meets the best few of GEMM 1
with the best few of GEMM 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from search_spaces.layer import JOINT, LayerConfig
from tuner.final import best_trials
from tuner.layer_place import LayerPlace
from tuner.ledger import Ledger
from tuner.place_search import Run
from tuner.report import Outcome
from tuning_db.records import Source, TrialRecord

MOST = 3  # configs of each GEMM that meet those of the other

Contenders = Mapping[str, TrialRecord]  # a part's timed configs by name, best first


def contenders(outcome: Outcome, run: Run) -> Contenders:
    """The winner, finalists by their times in the last final, then what was searched only.

    Empty where nothing works.
    """
    winner = outcome.verdict.winner
    if winner is None:
        return {}
    final = Ledger(run.db, run.id, outcome.place).last_final()
    finalists = [record for records in final.values() for record in records]
    others = best_trials(outcome.records, len(outcome.records))
    found = {winner.config: winner}
    for record in [*best_trials(finalists, len(finalists)), *others]:
        found.setdefault(record.config, record)
    return found


def candidates(
    place: LayerPlace,
    parts: Sequence[Contenders],
    guest: LayerConfig | None,
    present: LayerConfig | None,
) -> list[LayerConfig]:
    """The default, what the user named, the best of the parts in pairs, ``guest``, the winner of
    the bucket below, and the ``present`` winner, which defends its title: each once.

    Only those whose parts all work; what is measured, the present winner may be without.
    """
    gate, gate_up, down = (list(part) for part in parts)
    pairs = product(gate[:1], gate_up[:MOST], down[:MOST])
    best = [LayerConfig.parse(JOINT.join(names)) for names in pairs]
    more = [config for config in (guest, present) if config is not None]
    unique = dict.fromkeys([place.view.default(), *place.extra, *best, *more])
    spared = present if place.source is Source.MEASURED else None
    return [config for config in unique if config == spared or works(config, parts)]


def works(config: LayerConfig, parts: Sequence[Contenders]) -> bool:
    """Whether each of its parts has a time of its own."""
    return all(str(part) in found for part, found in zip(config.parts, parts, strict=True))


def part_times(config: LayerConfig, parts: Sequence[Contenders]) -> tuple[float, ...] | None:
    """Microseconds of its parts, each by itself; None where one was never timed in this search."""
    if not works(config, parts):
        return None
    records = [found[str(part)] for part, found in zip(config.parts, parts, strict=True)]
    return tuple(record.time_us or 0.0 for record in records)
