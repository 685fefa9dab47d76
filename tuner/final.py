"""Final: the best configs and the default, timed side by side, decide who wins.

Search times were taken minutes apart, on a GPU whose clocks drift. So the winner is chosen from
times taken interleaved, on inputs from a new seed, with every row of the result checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from templates.built import BuildError, Built
from tuner.backends.base import Backend, Candidate
from tuner.builder import Builder
from tuner.ledger import Ledger
from tuning_db.finals import Final, mean_us
from tuning_db.records import TrialRecord, TrialStatus, Winner


@dataclass(frozen=True)
class Verdict:
    """Who won. ``ties`` are finalists whose spread overlaps the winner's; None: nobody works."""

    winner: TrialRecord | None
    default: TrialRecord | None
    ties: tuple[TrialRecord, ...] = ()


def best_trials(records: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """The ``most`` fastest trials that worked, fastest first."""
    timed = [(r.time_us, r.config, r) for r in records if r.status is TrialStatus.OK and r.time_us]
    return [record for _, _, record in sorted(timed, key=lambda entry: entry[:2])[:most]]


def provisional(records: Sequence[TrialRecord]) -> Verdict:
    """The verdict of search times alone, for a search that was interrupted before its final."""
    best = best_trials(records, 1)
    defaults = best_trials([record for record in records if record.is_default], 1)
    return Verdict(best[0] if best else None, defaults[0] if defaults else None)


def finalists(
    records: Sequence[TrialRecord], most: int, late: Sequence[Any], incumbent: Winner | None
) -> list[Any]:
    """The ``most`` fastest configs, those of ``late`` and the present winner, each once.

    ``late`` begins with the default. The present winner defends its title, so that a short search
    never replaces a better one.
    """
    parse = type(late[0]).parse
    chosen = [parse(record.config) for record in best_trials(records, most)]
    failed = {record.config for record in records if record.status is not TrialStatus.OK}
    defending = [] if incumbent is None else [parse(incumbent.trial.config)]
    chosen += [config for config in (*late, *defending) if str(config) not in failed]
    return list(dict.fromkeys(chosen))


def hold_final(
    configs: Sequence[Any], builder: Builder, backend: Backend, ledger: Ledger, seed: int
) -> Verdict:
    """Times ``configs`` side by side, stores what comes out and chooses the winner.

    A config has to work on every card; its time is the mean over cards.
    """
    builds = [builder.submit(ledger.place.problem, config) for config in configs]
    candidates = [
        Candidate(config, built)
        for config, built in zip(configs, map(_only, builds), strict=True)
        if isinstance(built, Built)
    ]
    built = {candidate.config: candidate.built for candidate in candidates}
    by_config: Final = {}
    for measurement in backend.finals(candidates, seed) if candidates else []:
        record = ledger.measured(measurement, built[measurement.config], is_finalist=True)
        by_config.setdefault(record.config, []).append(record)
    return choose_winner(by_config)


def choose_winner(by_config: Final) -> Verdict:
    """The fastest on average over cards; its slowest card's trial stands for it."""
    means = {config: mean_us(records) for config, records in by_config.items()}
    standing = sorted((mean, config) for config, mean in means.items() if mean is not None)
    if not standing:
        return Verdict(None, None)
    trials = {
        config: max(by_config[config], key=lambda record: record.time_us or 0.0)
        for _, config in standing
    }
    best_us, best = standing[0]
    ties = [
        trials[config]
        for mean_us, config in standing[1:]
        if mean_us - best_us <= _spread(by_config[best]) + _spread(by_config[config])
    ]
    default = next((trial for trial in trials.values() if trial.is_default), None)
    return Verdict(trials[best], default, tuple(ties))


def _spread(records: Sequence[TrialRecord]) -> float:
    return max(record.time_spread_us or 0.0 for record in records)


def _only(future: Future[list[Built | BuildError]]) -> Built | BuildError:
    [result] = future.result()
    return result
