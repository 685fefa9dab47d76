"""fused_gate's config: one point of its search space, with a short lossless name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.errors import UserError
from search_spaces.grouped_gemm import GroupedGemmConfig

LANES = 32  # of a warp

_NAME = re.compile(
    r"(?P<router>mma|fma|none)(?P<tile_t>\d+)x(?P<tile_e>\d+)x(?P<tile_k>\d+)"
    r"_w(?P<warps_t>\d+)x(?P<warps_e>\d+)x(?P<warps_k>\d+)_s(?P<stages>\d+)"
    r"_(?P<order>te|et)_k(?P<split>\d+)_l(?P<lanes>\d+)_(?P<tail>last|pass)"
)


@dataclass(frozen=True)
class GateConfig:
    """How a CTA gets the logits of ``tile_t`` tokens, chooses experts and sorts rows.

    ``router``: ``mma`` multiplies fp16 on tensor cores, ``fma`` any type in fp32, ``none`` reads
    logits. A CTA of ``warps_t`` x ``warps_e`` x ``warps_k`` warps multiplies with ``tile_e`` rows
    of the router, ``tile_k`` elements a step; ``stages`` of them wait in shared memory (``mma``).
    ``swap`` puts tokens on the 8-wide axis of the MMA. More router rows, and ``split`` parts of
    H, are other CTAs' work; the one that is done last chooses. ``lanes`` share a token when
    experts are chosen. ``tail``: rows are sorted by the ``last`` CTA, or by a second ``pass``.
    Where there is no router, ``tile_e`` and ``tile_k`` are 0.
    """

    router: str
    tile_t: int
    tile_e: int
    tile_k: int
    warps_t: int
    warps_e: int
    warps_k: int
    stages: int
    swap: bool
    split: int
    lanes: int
    tail: str

    def __str__(self) -> str:
        return (
            f"{self.router}{self.tile_t}x{self.tile_e}x{self.tile_k}"
            f"_w{self.warps_t}x{self.warps_e}x{self.warps_k}_s{self.stages}"
            f"_{'et' if self.swap else 'te'}_k{self.split}_l{self.lanes}_{self.tail}"
        )

    @classmethod
    def parse(cls, text: str) -> GateConfig:
        """Read back ``str(config)``. Raises UserError when the text is no such name."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise UserError(
                f"'{text}' is no fused_gate config: expected e.g. "
                "mma32x128x64_w1x4x1_s2_te_k1_l8_pass"
            )
        fields = match.groupdict()
        values: dict[str, Any] = {
            name: value if name in ("router", "tail") else int(value)
            for name, value in fields.items()
            if name != "order"
        }
        return cls(**values, swap=fields["order"] == "et")

    @property
    def threads(self) -> int:
        """Threads of a CTA."""
        return LANES * self.warps_t * self.warps_e * self.warps_k

    @property
    def compile_key(self) -> GateConfig:
        """Equal keys, equal machine code: how many parts H has is seen from the grid."""
        return replace(self, split=min(self.split, 2))

    @property
    def mma_tile(self) -> GroupedGemmConfig:
        """The router's GEMM as that of one expert: tokens are its rows, router rows columns."""
        return GroupedGemmConfig(
            tile_m=self.tile_t, tile_n=self.tile_e, tile_k=self.tile_k,
            warps_m=self.warps_t, warps_n=self.warps_e, warps_k=self.warps_k,
            stages=self.stages, smem="pad8", acc="f32",
            fragments=2, k_step=16 if self.tile_k // self.warps_k >= 32 else 8,
            swap=self.swap, cache="ca", min_ctas=1, group_m=1, split_k=1,
        )  # fmt: skip
