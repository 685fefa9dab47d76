"""grouped_gemm's config: one point of its search space, with a short lossless name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.errors import UserError

_NAME = re.compile(
    r"(?P<tile_m>\d+)x(?P<tile_n>\d+)x(?P<tile_k>\d+)"
    r"_w(?P<warps_m>\d+)x(?P<warps_n>\d+)x(?P<warps_k>\d+)"
    r"_s(?P<stages>\d+)_(?P<smem>none|pad\d+|sw\d\.\d\.\d)_(?P<acc>f32|f16(?:p\d+)?)"
    r"_r(?P<fragments>\d)x(?P<k_step>\d+)_(?P<order>mn|nm)_(?P<cache>c[agsv]|nc)_o(?P<min_ctas>\d+)"
    r"_g(?P<group_m>\d+)_k(?P<split_k>\d+)(?:_(?P<combine>c[oar]))?"
)
_COMBINE_SUFFIX = {"none": "", "ordered": "_co", "atomic": "_ca", "reduce": "_cr"}
_COMBINE = {suffix[1:] or None: combine for combine, suffix in _COMBINE_SUFFIX.items()}


@dataclass(frozen=True)
class GroupedGemmConfig:
    """How one CTA computes a tile of C, and how the tiles are spread over CTAs.

    ``tile_m`` counts rows (tokens), ``tile_n`` columns of C. ``swap`` puts tokens on the 8-wide
    axis of the MMA instead of the 16-wide one. ``smem`` is the layout of a shared-memory row:
    ``swB.M.S`` is ``cute::Swizzle<B, M, S>``, ``padP`` appends P halves, ``none`` does neither.
    ``acc``: ``f32``, ``f16``, or ``f16pP``, fp16 sums added to fp32 every P k-steps of 16.
    ``fragments`` register buffers hold MMA operands of ``k_step`` halves each, so that with 2 the
    next ldmatrix overlaps the MMAs. ``cache`` is the PTX cache operator of the weight loads.
    ``group_m`` (raster order) and ``split_k`` are kernel arguments: they do not change the machine
    code. ``combine`` tells how a token's weighted rows become one of C: ``ordered``, summed in
    order by whichever CTA finishes the last of them; ``atomic``, added up in fp32 as they come;
    ``reduce``, by a second launch; ``none`` where rows stay apart.
    """

    tile_m: int
    tile_n: int
    tile_k: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int
    smem: str
    acc: str
    fragments: int
    k_step: int
    swap: bool
    cache: str
    min_ctas: int
    group_m: int
    split_k: int
    combine: str = "none"

    def __str__(self) -> str:
        order = "nm" if self.swap else "mn"
        return (
            f"{self.tile_m}x{self.tile_n}x{self.tile_k}"
            f"_w{self.warps_m}x{self.warps_n}x{self.warps_k}_s{self.stages}_{self.smem}_{self.acc}"
            f"_r{self.fragments}x{self.k_step}_{order}_{self.cache}_o{self.min_ctas}"
            f"_g{self.group_m}_k{self.split_k}{_COMBINE_SUFFIX[self.combine]}"
        )

    @classmethod
    def parse(cls, text: str) -> GroupedGemmConfig:
        """Read back ``str(config)``. Raises UserError when the text is no such name."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise UserError(
                f"'{text}' is no grouped_gemm config: expected e.g. "
                "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
            )
        fields = match.groupdict()
        values: dict[str, Any] = {
            name: value if name in ("smem", "acc", "cache") else int(value)
            for name, value in fields.items()
            if name not in ("order", "combine")
        }
        swap, combine = fields["order"] == "nm", _COMBINE[fields["combine"]]
        return cls(**values, swap=swap, combine=combine)

    @property
    def threads(self) -> int:
        """Threads of a CTA."""
        return 32 * self.warps_m * self.warps_n * self.warps_k

    @property
    def row_halves(self) -> int:
        """Halves from one shared-memory row to the next."""
        return self.tile_k + (int(self.smem[3:]) if self.smem.startswith("pad") else 0)

    @property
    def promote_every(self) -> int:
        """k-steps of 16 between promotions to fp32; 0 when nothing is promoted."""
        return int(self.acc[4:]) if self.acc.startswith("f16p") else 0

    @property
    def compile_key(self) -> GroupedGemmConfig:
        """The config with its run-time parameters normalised: equal keys, equal machine code."""
        return replace(self, group_m=1, split_k=1)
