"""Proposals: always valid, never twice, and better than chance."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import mean
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from search_spaces.grouped_gemm_space import GROUPED_GEMM
from tests.tuner.recordings import GPU, MANY, SMALL, made_up_recording, made_up_us
from tuner.backends.replay import RecordedView
from tuner.options import SAMPLERS
from tuner.sampler import SOURCES, SnappingSampler, distributions
from tuner.view import View

optuna.logging.set_verbosity(optuna.logging.WARNING)


def recorded_view(count: int) -> RecordedView:
    trials = made_up_recording(count).trials[SMALL, MANY]
    return RecordedView(GROUPED_GEMM, SMALL, GPU, trials)


def search(view: View, sampler: str, trials: int, seed: int) -> list[Any]:
    """The configs a search evaluates when every one of them works."""
    tried: set[Any] = set()
    study = optuna.create_study(sampler=SnappingSampler(sampler, view, tried, str(seed)))
    order = []
    for _ in range(trials):
        trial = study.ask(distributions(view))
        config = GROUPED_GEMM.config_type(**trial.params)
        tried.add(config)
        order.append(config)
        study.tell(trial, made_up_us(config))
    return order


def test_the_command_line_offers_exactly_the_samplers_there_are() -> None:
    assert set(SAMPLERS) == set(SOURCES)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_are_valid_and_new(sampler: str) -> None:
    view = GROUPED_GEMM.view(SMALL, GPU)
    order = search(view, sampler, 40, seed=0)
    assert len(set(order)) == 40
    assert [config for config in order if view.explain(config)] == []


def test_what_no_valid_config_has_is_never_proposed() -> None:
    combining = replace(SMALL, combine="ordered")
    for problem, values in ((SMALL, ("none",)), (combining, ("ordered", "reduce"))):
        view = GROUPED_GEMM.view(problem, GPU)
        assert distributions(view)["combine"] == CategoricalDistribution(values)
        assert "f16" not in distributions(view)["acc"].choices  # type: ignore[attr-defined]
        assert {config.combine for config in search(view, "tpe", 30, seed=0)} == set(values)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_emptied_config_by_config(sampler: str) -> None:
    view = recorded_view(60)
    order = search(view, sampler, 60, seed=0)
    assert len(order) == view.count
    assert set(order) == set(view)


def test_exhaustive_keeps_the_order_of_enumeration() -> None:
    view = recorded_view(50)
    assert search(view, "exhaustive", 50, seed=0) == list(view)
    full = GROUPED_GEMM.view(SMALL, GPU)
    assert search(full, "exhaustive", 5, seed=0) == [full.at(i) for i in range(5)]


def test_random_proposals_differ_by_seed_and_repeat_with_it() -> None:
    view = recorded_view(200)
    assert search(view, "random", 10, seed=1) == search(view, "random", 10, seed=1)
    assert search(view, "random", 10, seed=1) != search(view, "random", 10, seed=2)


def test_tpe_finds_better_configs_than_chance() -> None:
    """120 evaluations of 1,000 configs, six searches each: mean regret over the best there is."""
    view = recorded_view(1000)
    optimum = min(map(made_up_us, view))
    regret = {
        sampler: [
            min(map(made_up_us, search(view, sampler, 120, seed))) / optimum - 1
            for seed in range(6)
        ]
        for sampler in ("tpe", "random")
    }
    assert mean(regret["tpe"]) < 0.7 * mean(regret["random"]), regret


def test_a_recorded_view_snaps_to_the_nearest_untried_config() -> None:
    view, rng = recorded_view(80), random.Random(0)
    target = GROUPED_GEMM.view(SMALL, GPU).sample(random.Random(99))
    tried: set[Any] = set()

    def distance(config: Any) -> int:
        names = [parameter.name for parameter in view.space.parameters]
        return sum(getattr(config, name) != getattr(target, name) for name in names)

    met = []
    while (config := view.snap(target, tried, rng)) is not None:
        tried.add(config)
        met.append(distance(config))
    assert met == sorted(met)
    assert len(met) == 80
