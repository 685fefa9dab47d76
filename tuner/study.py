"""Study: what Optuna knows of one search, kept in step with our own trial table.

The trial table is the truth. Optuna's storage stands beside it for the sampler's memory and for
optuna-dashboard; on resume it is brought in line: trials it lacks are added, those that a killed
run left open are failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from tuner.sampler import SnappingSampler, distributions, values_of
from tuner.view import View
from tuning_db.records import TrialRecord, TrialStatus

FIRST_RUN = "first_run"  # user attribute: the run that began the study
DECIDED = "decided"  # user attribute: its winner was chosen
CONSTRAINT = "works"  # Optuna constraint: > 0 where a config failed
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Proposal:
    """A config to evaluate, and Optuna's trial that waits for the answer."""

    config: Any
    trial: optuna.Trial


class Study:
    """Ask for configs, tell how they did. ``tried`` holds all that were ever handed out."""

    def __init__(self, study: optuna.Study, view: View, sampler: str, seed: str) -> None:
        self.tried: set[Any] = set()
        self._view, self._study = view, study
        study.sampler = SnappingSampler(sampler, view, self.tried, seed)

    def ask(self, wanted: Any | None = None) -> Proposal | None:
        """``wanted`` if it was not tried, else the sampler's choice; None when all were tried."""
        if len(self.tried) >= self._view.count:
            return None
        if wanted is not None and wanted not in self.tried:
            self._study.enqueue_trial(values_of(self._view, wanted))
        trial = self._study.ask(distributions(self._view))
        config = self._view.space.config_type(**trial.params)
        self.tried.add(config)
        return Proposal(config, trial)

    def tell(self, proposal: Proposal, record: TrialRecord) -> None:
        """Reports a finished trial, which must be in the trial table already.

        A failure is told as a broken constraint: TPE learns from those and ignores failed trials.
        """
        proposal.trial.set_user_attr("trial_id", record.id)
        proposal.trial.set_user_attr("config", record.config)
        if record.status is TrialStatus.OK:
            self._study.tell(proposal.trial, record.time_us)
            return
        proposal.trial.set_constraint(CONSTRAINT, 1.0)
        self._study.tell(proposal.trial, state=TrialState.PRUNED)

    def drop(self, proposal: Proposal) -> None:
        """Takes back a proposal that will not be evaluated."""
        self._study.tell(proposal.trial, state=TrialState.FAIL)

    def reconcile(self, records: Sequence[TrialRecord]) -> None:
        """Takes over the trials of our table and closes what a killed run left open."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.ask()  # a waiting trial can only be closed once it runs
            self._study.tell(trial.number, state=TrialState.FAIL)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
        known = finished_configs(self._study, self._view)
        for record in records:
            config = self._view.space.config_type.parse(record.config)
            if self._view.explain(config):
                continue  # the space has changed since
            self.tried.add(config)
            if str(config) not in known:
                self._study.add_trial(_frozen(record, self._view, config))

    @property
    def first_run(self) -> int:
        """The run that began the study: its trials and later ones belong to it."""
        return int(self._study.user_attrs[FIRST_RUN])

    @property
    def decided(self) -> bool:
        """Whether the final was held and its winner stored."""
        return bool(self._study.user_attrs.get(DECIDED, False))

    def close(self) -> None:
        """Notes that the winner is stored."""
        self._study.set_user_attr(DECIDED, True)


def finished_configs(study: optuna.Study, view: View) -> set[str]:
    """Names of the configs whose trials Optuna holds for finished."""
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return {str(view.space.config_type(**trial.params)) for trial in trials}


def _frozen(record: TrialRecord, view: View, config: Any) -> optuna.trial.FrozenTrial:
    works = record.status is TrialStatus.OK
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if works else TrialState.PRUNED,
        value=record.time_us if works else None,
        params=values_of(view, config),
        distributions=distributions(view),
        user_attrs={"trial_id": record.id, "config": record.config},
        constraints=None if works else {CONSTRAINT: 1.0},
    )
