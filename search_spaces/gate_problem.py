"""GateProblem: a router with everything fixed that is fixed when a model is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from search_spaces.errors import UserError
from search_spaces.problem import ALIGNMENT

MOST_EXPERTS = 2048
MOST_CHOSEN = 32
DTYPES = ("f16", "bf16", "f32")
SCORES = ("softmax", "sigmoid")
GROUP_SCORES = ("max", "top2")

_KEY = re.compile(
    r"fused_gate/(?:(?P<label>.+)/)?E(?P<experts>\d+)(?:\.H(?P<hidden>\d+))?\.top(?P<top_k>\d+)"
    r"\.(?P<dtype>\w+)\.(?P<score>softmax|sigmoid)(?P<bias>\.bias)?"
    r"(?:\.g(?P<groups>\d+)of(?P<topk_group>\d+)(?P<group_score>max|top2))?"
    r"(?P<renormalise>\.renorm)?(?:\.shared(?P<shared>\d+)(?P<shared_gate>gated)?)?"
)


@dataclass(frozen=True)
class GateProblem:
    """Hidden states [T, H] -> the top_k of E experts for each token, their weights, their rows.

    Logits are hidden x router[E, H]^T in fp32; with ``hidden`` 0 they are given, [T, E], in
    ``dtype``. Scores are their softmax or sigmoid in fp32. Chosen are the top_k largest scores
    (with ``bias``, scores + a correction per expert, which weights do not see), equal ones by
    lower expert. With ``groups`` > 1 only experts of the ``topk_group`` best of as many equal,
    consecutive groups can be chosen; a group counts as its largest such score (``max``,
    DeepSeek-V2) or the sum of its two largest (``top2``, DeepSeek-V3). ``renormalise`` divides a
    token's weights by their sum. A factor on the weights is a kernel argument. ``shared`` experts,
    numbered from E on, follow the chosen ones of every token with weight 1, or with
    ``shared_gate`` the sigmoid of one more row of the router. Raises UserError for what no kernel
    has.
    """

    experts: int
    hidden: int
    top_k: int
    dtype: str = "f16"
    score: str = "softmax"
    bias: bool = False
    groups: int = 1
    topk_group: int = 1
    group_score: str = "max"
    renormalise: bool = False
    shared: int = 0
    shared_gate: bool = False
    label: str = field(default="custom", compare=False)
    op: str = field(default="fused_gate", init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.experts <= MOST_EXPERTS:
            raise UserError(f"E={self.experts}: a gate chooses among 1..{MOST_EXPERTS} experts")
        if not 1 <= self.top_k <= min(self.experts, MOST_CHOSEN):
            limit = min(self.experts, MOST_CHOSEN)
            raise UserError(f"top_k={self.top_k}: must lie in 1..{limit} for E={self.experts}")
        if self.hidden < 0 or self.hidden % ALIGNMENT:
            raise UserError(
                f"H={self.hidden} is no multiple of {ALIGNMENT}: rows are read 16 bytes at a time"
            )
        _choose("dtype", self.dtype, DTYPES)
        _choose("score", self.score, SCORES)
        _choose("group score", self.group_score, GROUP_SCORES)
        self._check_groups()
        if self.shared < 0 or self.shared + self.top_k > MOST_CHOSEN:
            raise UserError(
                f"{self.shared} shared experts, top_k={self.top_k}: at most {MOST_CHOSEN} in all"
            )
        if self.shared_gate and not (self.shared and self.hidden):
            raise UserError("a shared gate needs shared experts, and hidden states to look at")

    def _check_groups(self) -> None:
        if self.groups < 1 or self.experts % self.groups:
            raise UserError(f"n_group={self.groups} does not divide E={self.experts}")
        if not 1 <= self.topk_group <= self.groups:
            raise UserError(f"topk_group={self.topk_group}: must lie in 1..n_group={self.groups}")
        if self.groups == 1:
            return
        size = self.experts // self.groups
        if self.top_k > self.topk_group * size:
            raise UserError(
                f"top_k={self.top_k} of {self.topk_group} groups of {size}: there are fewer experts"
            )
        if self.group_score == "top2" and size < 2:
            raise UserError(f"groups of {size} have no two largest scores")

    @property
    def slots(self) -> int:
        """Rows that a token becomes: its chosen experts and the shared ones."""
        return self.top_k + self.shared

    @property
    def all_experts(self) -> int:
        """Groups of rows: routed and shared experts."""
        return self.experts + self.shared

    @property
    def router_rows(self) -> int:
        """Rows of the router's weights: one an expert, and the shared gate's."""
        return self.experts + self.shared_gate

    @property
    def key(self) -> str:
        """Identity without the label: ``fused_gate/E128.H2048.top8.f16.softmax.renorm``."""
        return f"fused_gate/{self._shape}"

    def __str__(self) -> str:
        return f"fused_gate/{self.label}/{self._shape}"

    @property
    def _shape(self) -> str:
        hidden = f".H{self.hidden}" if self.hidden else ""
        groups = ""
        if self.groups > 1:
            groups = f".g{self.groups}of{self.topk_group}{self.group_score}"
        shared = f".shared{self.shared}" if self.shared else ""
        return (
            f"E{self.experts}{hidden}.top{self.top_k}.{self.dtype}.{self.score}"
            f"{'.bias' if self.bias else ''}{groups}{'.renorm' if self.renormalise else ''}"
            f"{shared}{'gated' if self.shared_gate else ''}"
        )

    @classmethod
    def parse(cls, text: str) -> GateProblem:
        """Read back ``key`` or ``str()``. Raises UserError when the text is neither."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise UserError(
                f"'{text}' is no gate's key: expected e.g. "
                "fused_gate/E128.H2048.top8.f16.softmax.renorm"
            )
        return cls(
            experts=int(match["experts"]),
            hidden=int(match["hidden"] or 0),
            top_k=int(match["top_k"]),
            dtype=match["dtype"],
            score=match["score"],
            bias=match["bias"] is not None,
            groups=int(match["groups"] or 1),
            topk_group=int(match["topk_group"] or 1),
            group_score=match["group_score"] or "max",
            renormalise=match["renormalise"] is not None,
            shared=int(match["shared"] or 0),
            shared_gate=match["shared_gate"] is not None,
            label=match["label"] or "custom",
        )

    @property
    def element_bytes(self) -> int:
        """Bytes of a hidden state, router weight or given logit."""
        return 4 if self.dtype == "f32" else 2

    def flops(self, tokens: int) -> int:
        """Multiply-adds of the router counted as two; none where logits are given."""
        return 2 * tokens * self.router_rows * self.hidden

    def traffic(self, tokens: int) -> int:
        """Fewest bytes through device memory: inputs once, then ids, weights and permutation."""
        width = self.hidden or self.experts
        router = self.router_rows * self.hidden * self.element_bytes
        written = 4 * (5 * tokens * self.slots + self.all_experts + 1)
        return tokens * width * self.element_bytes + router + written


def _choose(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"unknown {name} '{value}': choose one of {', '.join(known)}")
