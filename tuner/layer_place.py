"""LayerPlace: one measurement of a whole layer: a bucket of it, and its parts' own places."""

from __future__ import annotations

import random
from dataclasses import dataclass

from search_spaces.bucket import Bucket
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import MOE_LAYER, LayerView, part_bucket
from tuner.plan import LARGEST_SEED, Place, Plan
from tuner.target import Target
from tuning_db.records import Source


@dataclass(frozen=True)
class LayerPlace:
    """A layer and a bucket on one GPU model; ``parts`` are the places of gate, GEMM 1 and GEMM 2,
    in which as many tokens meet them."""

    problem: LayerProblem
    bucket: Bucket
    parts: tuple[Place, ...]

    @property
    def target(self) -> Target:
        """The GPU model."""
        return self.parts[0].target

    @property
    def source(self) -> Source:
        """Where its times come from."""
        return self.parts[0].source

    @property
    def view(self) -> LayerView:
        """Its valid configs."""
        return MOE_LAYER.view(self.problem, self.target.gpu)

    @property
    def extra(self) -> list[LayerConfig]:
        """The configs that the user named."""
        return [LayerConfig(*parts) for parts in zip(*(p.extra for p in self.parts), strict=True)]

    def seed(self, run_seed: int) -> int:
        """A seed of its own, unlike those of its parts."""
        text = f"{run_seed} {self.problem.key} {self.bucket} {self.target.gpu.name}"
        return random.Random(text).randrange(LARGEST_SEED)


def layer_places(plan: Plan, target: Target) -> list[LayerPlace]:
    """The plan's layer on one GPU model, bucket by bucket; none where it is about single ops."""
    layer = plan.layer
    if layer is None:
        return []
    places = {(p.problem, p.bucket): p for p in plan.places if p.target == target}
    buckets = [bucket for problem, bucket in places if problem == layer.gate_up]
    return [
        LayerPlace(
            layer,
            bucket,
            tuple(places[part, part_bucket(layer, part, bucket)] for part in layer.parts),
        )
        for bucket in buckets
    ]
