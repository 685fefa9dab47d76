"""Ranking: configs the cost model likes, for a search to begin with and for GPUs not at hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from search_spaces import gate_layout, grouped_gemm_space
from search_spaces.bucket import Bucket
from search_spaces.gate_problem import GateProblem
from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.prices import predict
from search_spaces.problems import AnyProblem
from search_spaces.space import SpaceView
from search_spaces.spaces import space_for

EXPLORE = 0.4  # share of the samples drawn at random; the rest descends from the best of them
PARENTS = 24
CHILDREN = 96  # of one generation
FOREIGN = 0.3  # share of its parameters that a child has from its second parent
MUTATIONS = 2  # parameters of a child that are drawn anew, at most
PATIENCE = 50  # invalid or known children in a row for each wanted: the space is used up
PROMOTION_PRICE = 1.02  # fp16 sums lose bits of the result: they must buy more time than this
HISTOGRAM_SEED = 0  # the same routing for every config, so that they differ by themselves only

# Parameters, and the share of a ranked list that configs may have that agree in all of them.
SHARES: dict[str, tuple[tuple[tuple[str, ...], float], ...]] = {
    "grouped_gemm": (
        (("tile_k",), 2 / 3),
        (("stages",), 2 / 3),
        (("tile_m", "tile_n", "tile_k"), 1 / 6),
        (("tile_m", "tile_n", "tile_k", "warps_m", "warps_n", "warps_k"), 1 / 16),
    ),
    # Its model was fitted to nothing: a list of it tries everything that may well be the best.
    "fused_gate": (
        (("router", "tail"), 1 / 2),
        (("lanes",), 1 / 2),
        (("tile_t", "tile_e"), 1 / 4),
        (("tile_t", "tile_e", "tile_k", "split"), 1 / 8),
        (("tile_t", "tile_e", "tile_k", "warps_t", "warps_e", "warps_k"), 1 / 16),
    ),
}


class Ranking:
    """Scores of the configs met so far: the best time per machine code, launch arguments free.

    A score is the predicted time in microseconds, a little more where sums are rounded to fp16.
    """

    def __init__(self, problem: AnyProblem, bucket: Bucket, gpu: GpuSpec) -> None:
        self.problem, self.gpu = problem, gpu
        self.rows = bucket.histogram(problem, HISTOGRAM_SEED)
        self.scores: dict[Any, float] = {}
        self._best: dict[Any, Any] = {}  # compile key -> its best config

    def add(self, config: Any) -> None:
        """Score a valid config, unless it is known."""
        if config in self.scores:
            return
        time = predict(self.problem, config, self.gpu, self.rows).total_us
        self.scores[config] = time * (PROMOTION_PRICE if _rounds_sums(config) else 1.0)
        known = self._best.get(config.compile_key)
        if known is None or self.scores[config] < self.scores[known]:
            self._best[config.compile_key] = config

    def best(self) -> list[Any]:
        """One config per machine code, fastest first; of equals the one with less shared memory."""
        return sorted(
            self._best.values(), key=lambda c: (self.scores[c], _smem(self.problem, c), str(c))
        )


def _rounds_sums(config: Any) -> bool:
    return isinstance(config, GroupedGemmConfig) and config.acc != "f32"


def _smem(problem: AnyProblem, config: Any) -> int:
    """Bytes of shared memory a CTA takes."""
    if isinstance(problem, GateProblem):
        return gate_layout.smem_bytes(problem, config)
    return grouped_gemm_space.smem_bytes(config)


def rank(
    problem: AnyProblem,
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
    view = space_for(problem.op).view(problem, gpu)
    view.require()
    ranking = Ranking(problem, bucket, gpu)
    ranking.add(view.default())
    for _ in range(int(samples * EXPLORE)):
        ranking.add(view.sample(rng))
    while len(ranking.scores) < samples and _generation(view, ranking, rng):
        pass
    return list(_diverse(ranking, limit))


def _generation(view: SpaceView, ranking: Ranking, rng: random.Random) -> bool:
    """Score children of the best configs so far; False when hardly any new one was found."""
    parents = list(_diverse(ranking, PARENTS))
    before = len(ranking.scores)
    for _ in range(CHILDREN * PATIENCE):
        child = _child(view, rng.choice(parents), rng.choice(parents), rng)
        if child not in ranking.scores and not view.explain(child):
            ranking.add(child)
            if len(ranking.scores) == before + CHILDREN:
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
    taken: Counter[tuple[Any, ...]] = Counter()
    seen: set[tuple[tuple[Any, ...], float]] = set()
    count, shares = 0, SHARES[ranking.problem.op]
    for config in ranking.best():
        groups = [(names, *(getattr(config, name) for name in names)) for names, _ in shares]
        alike = (groups[-1], round(ranking.scores[config], 6))
        full = any(
            taken[group] >= max(1, share * limit)
            for group, (_, share) in zip(groups, shares, strict=True)
        )
        if full or alike in seen:
            continue
        taken.update(groups)
        seen.add(alike)
        yield config
        count += 1
        if count == limit:
            return
