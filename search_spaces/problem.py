"""Problem: an op with everything fixed that is fixed when a model is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from search_spaces.errors import UserError

ALIGNMENT = 8  # halves in one 128-bit global load: rows of A, B and C start on 16 bytes


class Numerics(str, Enum):
    """How products may be accumulated. Part of the problem, since it changes the answer.

    ``fp32`` accumulates in fp32 only; ``promoted`` also allows fp16 partial sums that are added
    to fp32 every few k-steps (error bound in :mod:`search_spaces.numerics`); ``fp16`` also allows
    sums that stay in fp16 over all of K, which can overflow beyond 65504.
    """

    FP32 = "fp32"
    PROMOTED = "promoted"
    FP16 = "fp16"


_KEY = re.compile(
    r"(?P<op>\w+)/(?:(?P<label>.+)/)?"
    r"E(?P<experts>\d+)\.N(?P<n>\d+)\.K(?P<k>\d+)\.top(?P<top_k>\d+)"
    r"\.(?P<dtype>\w+)\.(?P<numerics>\w+)(?:\.g(?P<group>\d+))?(?:\.(?P<epilogue>\w+))?"
)


@dataclass(frozen=True)
class Problem:
    """C[rows, N] = A[rows, K] x B[expert(row), N, K]^T over ``experts`` groups of sorted rows.

    ``n`` and ``k`` are multiples of 8. ``label`` (model and layer) is for people: two problems of
    the same shape are equal whatever model they come from, and share their tuning.
    """

    op: str
    experts: int
    n: int
    k: int
    top_k: int
    dtype: str = "f16"
    numerics: Numerics = Numerics.PROMOTED
    group: int | None = None
    epilogue: str = "plain"
    label: str = field(default="custom", compare=False)

    def __post_init__(self) -> None:
        for name, value in (("E", self.experts), ("N", self.n), ("K", self.k)):
            if value < 1:
                raise UserError(f"{name}={value}: must be at least 1")
        for name, value in (("N", self.n), ("K", self.k)):
            if value % ALIGNMENT:
                raise UserError(
                    f"{name}={value} is not a multiple of {ALIGNMENT}: rows are read 16 bytes at a "
                    f"time; pad it to {value + ALIGNMENT - value % ALIGNMENT}"
                )
        if not 1 <= self.top_k <= self.experts:
            raise UserError(f"top_k={self.top_k}: must lie in 1..E={self.experts}")

    @property
    def key(self) -> str:
        """Identity without the label: ``grouped_gemm/E8.N28672.K4096.top2.f16.promoted``."""
        return f"{self.op}/{self._shape}"

    def __str__(self) -> str:
        return f"{self.op}/{self.label}/{self._shape}"

    @property
    def _shape(self) -> str:
        group = f".g{self.group}" if self.group else ""
        epilogue = f".{self.epilogue}" if self.epilogue != "plain" else ""
        return (
            f"E{self.experts}.N{self.n}.K{self.k}.top{self.top_k}"
            f".{self.dtype}.{self.numerics.value}{group}{epilogue}"
        )

    @classmethod
    def parse(cls, text: str) -> Problem:
        """Read back ``key`` or ``str()``. Raises UserError when the text is neither."""
        match = _KEY.fullmatch(text)
        if match is None or match["numerics"] not in {n.value for n in Numerics}:
            raise UserError(
                f"'{text}' is no problem key: expected e.g. "
                "grouped_gemm/mixtral-8x7b/gate_up/E8.N28672.K4096.top2.f16.promoted"
            )
        return cls(
            op=match["op"],
            experts=int(match["experts"]),
            n=int(match["n"]),
            k=int(match["k"]),
            top_k=int(match["top_k"]),
            dtype=match["dtype"],
            numerics=Numerics(match["numerics"]),
            group=int(match["group"]) if match["group"] else None,
            epilogue=match["epilogue"] or "plain",
            label=match["label"] or "custom",
        )

    def flops(self, rows: int) -> int:
        """Multiply-adds counted as two, for ``rows`` rows of A (tokens x top_k)."""
        return 2 * rows * self.n * self.k

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's fp16 weight matrix [N, K]."""
        return 2 * self.n * self.k

    def traffic(self, rows: int, active_experts: int) -> int:
        """Fewest bytes through device memory: active weights and A read once, C written once."""
        return active_experts * self.expert_bytes + 2 * rows * (self.n + self.k)
