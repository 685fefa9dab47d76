"""Sampler: proposals for Optuna that are always valid configs nobody tried yet.

Optuna's samplers know neither constraints nor what was tried: on spaces like ours TPE repeats
itself until it stalls. So a sampler of ours stands before it and replaces each proposal by a near
config that is both; the trial that Optuna stores holds what is really evaluated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from tuner.view import View


class ConfigSource(Protocol):
    """Where proposals come from before they are snapped."""

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """A config, valid or not, tried or not."""


class RandomSource:
    """Every valid config is as likely as any other."""

    def __init__(self, view: View, rng: random.Random) -> None:
        self._view, self._rng = view, rng

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        return self._view.sample(self._rng)


class ExhaustiveSource:
    """All valid configs in the stable order of enumeration."""

    def __init__(self, view: View, rng: random.Random) -> None:
        self._left: Iterator[Any] = iter(view)

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        return next(self._left)


class TpeSource:
    """Optuna's multivariate TPE; random configs until it has seen ten."""

    def __init__(self, view: View, rng: random.Random) -> None:
        self._view, self._rng = view, rng
        self._random = RandomSource(view, rng)
        self._tpe = optuna.samplers.TPESampler(seed=rng.randrange(1 << 31))
        self._open = {name: d for name, d in distributions(view).items() if not d.single()}

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        values = self._tpe.sample_relative(study, trial, dict(self._open))
        if not values:
            return self._random.propose(study, trial)
        fixed = {p.name: p.values[0] for p in self._view.parameters}
        return self._view.space.config_type(**{**fixed, **values})


SOURCES: dict[str, Callable[[View, random.Random], ConfigSource]] = {
    "tpe": TpeSource,
    "random": RandomSource,
    "exhaustive": ExhaustiveSource,
}


def distributions(view: View) -> dict[str, BaseDistribution]:
    """One categorical per parameter: integer encodings taught TPE nothing more."""
    return {p.name: CategoricalDistribution(p.values) for p in view.parameters}


def values_of(view: View, config: Any) -> dict[str, Any]:
    """The config as Optuna stores it: parameter -> value."""
    return {p.name: getattr(config, p.name) for p in view.space.parameters}


class SnappingSampler(optuna.samplers.BaseSampler):
    """Asks ``name``'s source and snaps its proposal to a valid config not in ``tried``.

    ``tried`` is shared with the caller, who must not ask once it holds every config.
    """

    def __init__(self, name: str, view: View, tried: set[Any], seed: str) -> None:
        self._rng = random.Random(seed)
        self._view, self._tried = view, tried
        self._source = SOURCES[name](view, self._rng)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return distributions(self._view)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        proposal = self._source.propose(study, trial)
        config = self._view.snap(proposal, self._tried, self._rng)
        assert config is not None, "asked for a config when all were tried"
        return values_of(self._view, config)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise AssertionError(f"{param_name} is part of every proposal")
