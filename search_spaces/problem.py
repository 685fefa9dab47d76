"""Problem: an op with everything fixed that is fixed when a model is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from search_spaces.errors import UserError

ALIGNMENT = 8  # halves in one 128-bit global load: rows of A, B and C start on 16 bytes
PAIR_BLOCK = 8  # gate columns, then as many up columns, in the weights of a gated epilogue
GATED = ("swiglu", "geglu", "reglu")
EPILOGUES = ("plain", *GATED)
COMBINES = ("ordered", "any")


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
    r"\.(?P<dtype>\w+)\.(?P<numerics>\w+)(?:\.g(?P<group>\d+))?"
    r"(?:\.(?P<epilogue>(?!gather$|combine\b)\w+))?(?P<gather>\.gather)?"
    r"(?P<combine>\.combine(?:-any)?)?"
)


@dataclass(frozen=True)
class Problem:
    """C[rows, N] = A[rows, K] x B[expert(row), N, K]^T over ``experts`` groups of sorted rows.

    ``n`` and ``k`` are multiples of 8. With a gated ``epilogue`` N is a multiple of 16: 8 gate
    columns, then the 8 up columns that belong to them, and so on; C[rows, N / 2] is then
    act(gate) x up, act being silu (``swiglu``), gelu in its tanh form (``geglu``, the
    ``gelu_pytorch_tanh`` of transformers) or relu (``reglu``). With ``gather`` A is [tokens, K],
    and an index tells which token each sorted row reads. With ``combine`` C is [tokens, N]: every
    row of A is one of a token's ``top_k`` slots, and a token's row is the sum of these slots'
    products, each times its weight; ``ordered`` sums give the same bits every time, ``any`` also
    allows others. ``label`` (model and layer) is for people: two problems of the same shape are
    equal whatever model they come from, and share their tuning. Raises UserError for sizes,
    epilogues and combinations that no kernel has.
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
    gather: bool = False
    combine: str = ""

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
        if self.epilogue not in EPILOGUES:
            raise UserError(
                f"unknown epilogue '{self.epilogue}': choose one of {', '.join(EPILOGUES)}"
            )
        if self.gated and self.n % (2 * PAIR_BLOCK):
            raise UserError(
                f"N={self.n} with epilogue {self.epilogue} is not a multiple of {2 * PAIR_BLOCK}: "
                f"gate and up columns alternate in blocks of {PAIR_BLOCK}; pad it to {self.n + 8}"
            )
        if not 1 <= self.top_k <= self.experts:
            raise UserError(f"top_k={self.top_k}: must lie in 1..E={self.experts}")
        self._check_combine()

    def _check_combine(self) -> None:
        if self.combine not in ("", *COMBINES):
            raise UserError(
                f"unknown combine '{self.combine}': choose one of {', '.join(COMBINES)}"
            )
        if self.combine and (self.gather or self.gated):
            other = "gather" if self.gather else f"epilogue {self.epilogue}"
            raise UserError(
                f"combine does not go with {other}: a layer's second GEMM combines, its first one "
                "gathers and gates"
            )

    @property
    def key(self) -> str:
        """Identity without the label: ``grouped_gemm/E8.N28672.K4096.top2.f16.promoted``."""
        return f"{self.op}/{self._shape}"

    def __str__(self) -> str:
        return f"{self.op}/{self.label}/{self._shape}"

    @property
    def _shape(self) -> str:
        group = f".g{self.group}" if self.group else ""
        epilogue = f".{self.epilogue}" if self.gated else ""
        gather = ".gather" if self.gather else ""
        combine = {"": "", "ordered": ".combine", "any": ".combine-any"}[self.combine]
        return (
            f"E{self.experts}.N{self.n}.K{self.k}.top{self.top_k}"
            f".{self.dtype}.{self.numerics.value}{group}{epilogue}{gather}{combine}"
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
            gather=match["gather"] is not None,
            combine={None: "", ".combine": "ordered", ".combine-any": "any"}[match["combine"]],
            label=match["label"] or "custom",
        )

    @property
    def gated(self) -> bool:
        """Whether the epilogue joins gate and up columns to one of C."""
        return self.epilogue in GATED

    @property
    def columns(self) -> int:
        """Columns of C: N, or half of it with a gated epilogue."""
        return self.n // 2 if self.gated else self.n

    def rows_of_a(self, rows: int) -> int:
        """Rows of A behind ``rows`` sorted ones: with ``gather`` a token has one."""
        return self.tokens(rows) if self.gather else rows

    def rows_of_c(self, rows: int) -> int:
        """Rows of C that ``rows`` sorted ones make: with ``combine`` a token has one."""
        return self.tokens(rows) if self.combine else rows

    def tokens(self, rows: int) -> int:
        """Tokens of ``rows`` sorted rows; the last may lack some of its top_k."""
        return -(-rows // self.top_k)

    def flops(self, rows: int) -> int:
        """Multiply-adds counted as two, for ``rows`` sorted rows (tokens x top_k)."""
        return 2 * rows * self.n * self.k

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's fp16 weight matrix [N, K]."""
        return 2 * self.n * self.k

    def traffic(self, rows: int, active_experts: int) -> int:
        """Fewest bytes through device memory: active weights, A and its index once, C once.

        A combined row has a slot and a weight as well.
        """
        a_bytes = 2 * self.rows_of_a(rows) * self.k
        index = 4 * rows * self.gather + 8 * rows * bool(self.combine)
        c_bytes = 2 * self.rows_of_c(rows) * self.columns
        return active_experts * self.expert_bytes + a_bytes + index + c_bytes
