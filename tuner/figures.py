"""Figures: what a time means, as FLOP/s, bytes/s and a share of the roofline."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.bucket import Bucket
from search_spaces.gate_problem import GateProblem
from search_spaces.gpu import GpuSpec
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import part_bucket
from search_spaces.problem import Numerics
from search_spaces.problems import AnyProblem


@dataclass(frozen=True)
class Work:
    """What a bucket of a problem asks of a GPU; ``floor_us`` is the roofline's time for it."""

    flops: int
    traffic: int
    floor_us: float

    @classmethod
    def of(cls, problem: AnyProblem, bucket: Bucket, gpu: GpuSpec) -> Work:
        """How many experts are active does not depend on the seed that draws which.

        A layer's work is that of its parts, one after the other.
        """
        if isinstance(problem, LayerProblem):
            buckets = [part_bucket(problem, part, bucket) for part in problem.parts]
            parts = [cls.of(*part, gpu) for part in zip(problem.parts, buckets, strict=True)]
            return cls(
                sum(part.flops for part in parts),
                sum(part.traffic for part in parts),
                sum(part.floor_us for part in parts),
            )
        if isinstance(problem, GateProblem):
            tokens = bucket.tokens(problem)
            flops, traffic = problem.flops(tokens), problem.traffic(tokens)
            return cls(flops, traffic, gpu.floor_us(flops, traffic, f16_accumulate=False))
        rows = bucket.histogram(problem, seed=0)
        flops = problem.flops(sum(rows))
        traffic = problem.traffic(sum(rows), sum(count > 0 for count in rows))
        f16 = problem.numerics is not Numerics.FP32
        return cls(flops, traffic, gpu.floor_us(flops, traffic, f16_accumulate=f16))

    def tflops(self, time_us: float) -> float:
        """1e12 FLOP/s."""
        return self.flops / time_us / 1e6

    def gbps(self, time_us: float) -> float:
        """1e9 bytes/s of the traffic that no kernel can avoid."""
        return self.traffic / time_us / 1e3

    def roofline(self, time_us: float) -> float:
        """Share of the roofline, 0..1."""
        return self.floor_us / time_us
