"""Light-MoE's own layer, as a contestant."""

from __future__ import annotations

import torch

from engine import TunedKernels
from engine.layers import MoE, MoEConfig
from scripts.moe_peers.layer import Layer
from scripts.moe_peers.peer import Forward, Peer
from scripts.moe_peers.transformers_block import block_state

NAME = "Light-MoE"


class Ours:
    """Builds engine.layers.MoE once for each layer: its weights are interleaved copies."""

    def __init__(self, kernels: TunedKernels, max_tokens: int) -> None:
        self._kernels = kernels
        self._max_tokens = max_tokens
        self._built: tuple[Layer, MoE] | None = None
        self.peer = Peer(NAME, torch.float16, self.prepare, "fp16, tuned kernels")

    def prepare(self, layer: Layer, hidden: torch.Tensor) -> Forward:
        """The layer on ``hidden``. Raises UserError as engine.layers.MoE does."""
        moe, out = self.layer(layer), torch.empty_like(hidden)
        return lambda: moe(hidden, out=out)

    def layer(self, layer: Layer) -> MoE:
        """engine.layers.MoE with these weights."""
        if self._built is None or self._built[0] is not layer:
            self._built = None  # both at once might not fit
            model = layer.model
            config = MoEConfig(
                model.layer(), model.router.scaling, shared_intermediate=model.shared_intermediate
            )
            moe = MoE.from_hf(
                block_state(layer), config, self._kernels, max_tokens=self._max_tokens
            )
            self._built = (layer, moe)
        return self._built[1]
