"""LayerView: which configs a layer has. Its parts do not restrict each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from search_spaces.bucket import Bucket
from search_spaces.constraint import Violation
from search_spaces.gate_space import FUSED_GATE
from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.problems import AnyProblem
from search_spaces.space import SpaceView

PARTS = ("gate", "gate_up", "down")


@dataclass(frozen=True)
class LayerSpace:
    """What a layer's configs are; its parts' spaces are searched, this one is only looked up."""

    op: str = "moe_layer"
    config_type: Any = LayerConfig

    def view(self, problem: AnyProblem, gpu: GpuSpec) -> LayerView:
        """The space of one layer on one GPU."""
        assert isinstance(problem, LayerProblem)
        return LayerView(self, problem, gpu)


class LayerView:
    """The valid configs of a layer on one GPU: each valid config of one part with all of others."""

    def __init__(self, space: LayerSpace, problem: LayerProblem, gpu: GpuSpec) -> None:
        self.space, self.problem, self.gpu = space, problem, gpu
        parts = FUSED_GATE, GROUPED_GEMM, GROUPED_GEMM
        self.parts: tuple[SpaceView, ...] = tuple(
            its.view(part, gpu) for its, part in zip(parts, problem.parts, strict=True)
        )

    @property
    def count(self) -> int:
        """Number of valid configs."""
        return math.prod(part.count for part in self.parts)

    def explain(self, config: LayerConfig) -> list[Violation]:
        """Every broken rule, with the part that breaks it; empty when the config is valid."""
        return [
            Violation(broken.constraint, f"{name}: {broken.reason}")
            for name, part, chosen in zip(PARTS, self.parts, config.parts, strict=True)
            for broken in part.explain(chosen)
        ]

    def default(self) -> LayerConfig:
        """The defaults of its parts."""
        return LayerConfig(*(part.default() for part in self.parts))


MOE_LAYER = LayerSpace()


def part_bucket(layer: LayerProblem, part: AnyProblem, bucket: Bucket) -> Bucket:
    """The bucket of ``part`` in which as many tokens meet it as meet the layer in ``bucket``.

    They are the same but for a gate with shared experts: those are no choice of its own, and
    count among the layer's experts and rows.
    """
    if (part.experts, part.top_k) == (layer.experts, layer.top_k):
        return bucket
    return Bucket(bucket.tokens(layer) * part.top_k / part.experts, bucket.skew)
