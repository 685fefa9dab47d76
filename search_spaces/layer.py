"""moe_layer's config: the configs of its three launches under one lossless name."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.errors import UserError
from search_spaces.gate import GateConfig
from search_spaces.grouped_gemm import GroupedGemmConfig

JOINT = "+"  # in no name of a part


@dataclass(frozen=True)
class LayerConfig:
    """How the gate, GEMM 1 and GEMM 2 of a layer run; prints as their names with ``+`` between."""

    gate: GateConfig
    gate_up: GroupedGemmConfig
    down: GroupedGemmConfig

    def __str__(self) -> str:
        return JOINT.join(map(str, self.parts))

    @property
    def parts(self) -> tuple[GateConfig, GroupedGemmConfig, GroupedGemmConfig]:
        """In the order of launches."""
        return self.gate, self.gate_up, self.down

    @classmethod
    def parse(cls, text: str) -> LayerConfig:
        """Read back ``str(config)``. Raises UserError when the text is no such name."""
        names = text.split(JOINT)
        if len(names) != 3:
            raise UserError(
                f"'{text}' is no moe_layer config: expected the names of a gate's, GEMM 1's and "
                f"GEMM 2's config with {JOINT} between, GATE{JOINT}GATE_UP{JOINT}DOWN"
            )
        gate, gate_up, down = names
        return cls(
            GateConfig.parse(gate), GroupedGemmConfig.parse(gate_up), GroupedGemmConfig.parse(down)
        )
