"""Ranking: configs the cost model likes, for a search to begin with and for GPUs not at hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from search_spaces.bucket import Bucket
from search_spaces.cost_model import predict
from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.problem import Problem
from search_spaces.space import SpaceView

EXPLORE = 0.4  # share of the samples drawn at random; the rest descends from the best of them
PARENTS = 24
CHILDREN = 96  # of one generation
FOREIGN = 0.3  # share of its parameters that a child has from its second parent
MUTATIONS = 2  # parameters of a child that are drawn anew, at most
PATIENCE = 50  # invalid or known children in a row for each wanted: the space is used up
PER_FAMILY = 3  # ranked configs that may share tiles, warps and operand order
HISTOGRAM_SEED = 0  # the same routing for every config, so that they differ by themselves only


class Ranking:
    """Scores of the configs met so far: the best time per machine code, launch arguments free."""

    def __init__(self, problem: Problem, bucket: Bucket, gpu: GpuSpec) -> None:
        self.problem, self.gpu = problem, gpu
        self.rows = bucket.histogram(problem, HISTOGRAM_SEED)
        self.times: dict[Any, float] = {}
        self._best: dict[Any, Any] = {}  # compile key -> its best config

    def add(self, config: Any) -> None:
        """Score a valid config, unless it is known."""
        if config in self.times:
            return
        time = predict(self.problem, config, self.gpu, self.rows).total_us
        self.times[config] = time
        known = self._best.get(config.compile_key)
        if known is None or time < self.times[known]:
            self._best[config.compile_key] = config

    def best(self) -> list[Any]:
        """One config per machine code, fastest first; the name decides between equals."""
        return sorted(self._best.values(), key=lambda c: (self.times[c], str(c)))


def rank(
    problem: Problem,
    bucket: Bucket,
    gpu: GpuSpec,
    rng: random.Random,
    samples: int = 2000,
    limit: int = 64,
) -> list[Any]:
    """Up to ``limit`` promising configs, best prediction first, no two of the same machine code.

    Scores ``samples`` configs: random ones, then children of the best, generation by generation.
    Of configs that the model cannot tell apart one is kept, and of one tile shape a few, so that
    whoever measures the list learns something from every entry. Raises UserError when no config
    is valid.
    """
    view = GROUPED_GEMM.view(problem, gpu)
    view.require()
    ranking = Ranking(problem, bucket, gpu)
    ranking.add(view.default())
    for _ in range(int(samples * EXPLORE)):
        ranking.add(view.sample(rng))
    while len(ranking.times) < samples and _generation(view, ranking, rng):
        pass
    return list(_diverse(ranking, limit))


def _generation(view: SpaceView, ranking: Ranking, rng: random.Random) -> bool:
    """Score children of the best configs so far; False when hardly any new one was found."""
    parents = list(_diverse(ranking, PARENTS))
    before = len(ranking.times)
    for _ in range(CHILDREN * PATIENCE):
        child = _child(view, rng.choice(parents), rng.choice(parents), rng)
        if child not in ranking.times and not view.explain(child):
            ranking.add(child)
            if len(ranking.times) == before + CHILDREN:
                return True
    return False


def _child(view: SpaceView, mother: Any, father: Any, rng: random.Random) -> Any:
    parameters = view.space.parameters
    values = {
        p.name: getattr(father if rng.random() < FOREIGN else mother, p.name) for p in parameters
    }
    for parameter in rng.sample(parameters, rng.randint(0, MUTATIONS)):
        values[parameter.name] = rng.choice(parameter.values)
    return view.space.config_type(**values)


def _diverse(ranking: Ranking, limit: int) -> Iterator[Any]:
    families: Counter[Sequence[Any]] = Counter()
    seen: set[tuple[Sequence[Any], float]] = set()
    for config in ranking.best():
        c = config
        family = (c.tile_m, c.tile_n, c.tile_k, c.swap, c.warps_m, c.warps_n, c.warps_k)
        alike = (family, round(ranking.times[config], 6))
        if families[family] >= PER_FAMILY or alike in seen:
            continue
        families[family] += 1
        seen.add(alike)
        yield config
        if families.total() == limit:
            return
