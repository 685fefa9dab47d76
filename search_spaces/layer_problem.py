"""LayerProblem: a MoE layer with everything fixed that is fixed when a model is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from search_spaces.errors import UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.problem import GATED, Numerics, Problem

_EXAMPLE = "moe_layer/mixtral-8x7b/E8.H4096.I14336.top2.f16.promoted.swiglu.softmax.renorm"
_KEY = re.compile(
    r"moe_layer/(?:(?P<label>.+)/)?E(?P<experts>\d+)\.H(?P<hidden>\d+)\.I(?P<intermediate>\d+)"
    r"\.top(?P<top_k>\d+)\.(?P<dtype>\w+)\.(?P<numerics>fp32|promoted|fp16)"
    r"\.(?P<epilogue>\w+)\.(?P<router>.+)"
)


@dataclass(frozen=True)
class LayerProblem:
    """Hidden states [T, H] -> the weighted sum of their experts' outputs, [T, H], in fp16.

    Three launches: ``gate`` routes; ``gate_up`` gathers its rows, [T, H] x [E', 2I, H]^T, and
    joins gate and up columns by the gated ``epilogue``; ``down``, [rows, I] x [E', H, I]^T,
    weights and combines in a fixed order. E' counts routed and shared experts. ``intermediate``
    is I, a multiple of 8. Raises UserError for what no kernel has.
    """

    gate: GateProblem
    intermediate: int
    numerics: Numerics = Numerics.PROMOTED
    epilogue: str = "swiglu"
    label: str = field(default="custom", compare=False)
    op: str = field(default="moe_layer", init=False)

    def __post_init__(self) -> None:
        if not self.gate.hidden or self.gate.dtype != "f16":
            raise UserError(
                f"{self.gate.key} is no gate of a layer: it has to read the f16 hidden states that "
                "the experts read too"
            )
        if self.epilogue not in GATED:
            raise UserError(
                f"epilogue '{self.epilogue}' does not join gate and up columns: a layer has one "
                f"of {', '.join(GATED)}"
            )
        assert self.gate_up and self.down  # their own rules, told before anything is planned

    @property
    def gate_up(self) -> Problem:
        """GEMM 1: gathered rows, gated epilogue."""
        return Problem(
            "grouped_gemm", self.experts, 2 * self.intermediate, self.hidden, self.top_k,
            numerics=self.numerics, epilogue=self.epilogue, gather=True,
            label=self._label_of("gate_up"),
        )  # fmt: skip

    @property
    def down(self) -> Problem:
        """GEMM 2: weighted rows, combined in order."""
        return Problem(
            "grouped_gemm", self.experts, self.hidden, self.intermediate, self.top_k,
            numerics=self.numerics, combine="ordered", label=self._label_of("down"),
        )  # fmt: skip

    @property
    def parts(self) -> tuple[GateProblem | Problem, ...]:
        """What is launched, in order: gate, gate_up, down."""
        return self.gate, self.gate_up, self.down

    @property
    def hidden(self) -> int:
        """H, elements of a hidden state."""
        return self.gate.hidden

    @property
    def experts(self) -> int:
        """E', groups of rows: routed and shared experts."""
        return self.gate.all_experts

    @property
    def top_k(self) -> int:
        """Rows that a token becomes: its chosen experts and the shared ones."""
        return self.gate.slots

    @property
    def dtype(self) -> str:
        """Of hidden states and weights."""
        return self.gate.dtype

    @property
    def key(self) -> str:
        """Identity without the label; E and top count routed experts only."""
        return f"moe_layer/{self._shape}"

    def __str__(self) -> str:
        return f"moe_layer/{self.label}/{self._shape}"

    @property
    def _shape(self) -> str:
        gate = self.gate
        _, _, _, _, *router = gate.key.partition("/")[2].split(".")  # behind E, H, top and dtype
        return (
            f"E{gate.experts}.H{gate.hidden}.I{self.intermediate}.top{gate.top_k}.{gate.dtype}"
            f".{self.numerics.value}.{self.epilogue}.{'.'.join(router)}"
        )

    @classmethod
    def parse(cls, text: str) -> LayerProblem:
        """Read back ``key`` or ``str()``. Raises UserError when the text is neither."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise UserError(f"'{text}' is no layer's key: expected e.g. {_EXAMPLE}")
        gate = GateProblem.parse(
            "fused_gate/E{experts}.H{hidden}.top{top_k}.{dtype}.{router}".format(
                **match.groupdict()
            )
        )
        return cls(
            gate=gate,
            intermediate=int(match["intermediate"]),
            numerics=Numerics(match["numerics"]),
            epilogue=match["epilogue"],
            label=match["label"] or "custom",
        )

    def _label_of(self, part: str) -> str:
        return self.label if self.label == "custom" else f"{self.label}/{part}"
