"""GraphedMoE: a layer captured as a CUDA graph, for the small batches of decoding."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from search_spaces import UserError

if TYPE_CHECKING:
    from engine.layers.moe import MoE

WARM_UP_CALLS = 2  # the first loads kernels and grows scratch memory, the second needs neither


class GraphedMoE:
    """Called with hidden [tokens, H] fp16, answers [tokens, H] in memory of its own.

    The answer is overwritten by the next call. Routing, and with it the rows of each expert, may
    change between replays: sizes live on the device. The layer's kernels, as they were chosen when
    it was captured, and its workspace are part of the graph, which so belongs to the layer's
    stream. The host launches once instead of three times. Raises UserError for a number of tokens
    outside 1..max_tokens, and on a CPU.
    """

    def __init__(self, layer: MoE, tokens: int) -> None:
        device, most = layer.kernels.device, layer.workspace.max_tokens
        if device.type != "cuda":
            raise UserError(f"a layer on {device} cannot be captured: CUDA graphs need a GPU")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= most:
            raise UserError(f"tokens={tokens!r}: must lie in 1..{most}, the layer's max_tokens")
        self.hidden = torch.zeros(
            tokens, layer.config.problem.hidden, dtype=torch.float16, device=device
        )
        self.out = torch.empty_like(self.hidden)
        self._graph = torch.cuda.CUDAGraph()
        self._capture(layer)
        self._layer = layer  # whose weights and workspace must outlive the graph

    def _capture(self, layer: MoE) -> None:
        # Zeros all go to the same experts: as loads they would choose the graph's kernels.
        quiet = nullcontext() if layer.loads is None else layer.loads.held()
        with quiet, torch.cuda.device(self.hidden.device), torch.inference_mode():
            for _ in range(WARM_UP_CALLS):
                layer(self.hidden, out=self.out)
            torch.cuda.synchronize()
            with torch.cuda.graph(self._graph):
                layer(self.hidden, out=self.out)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Copies ``hidden`` in and replays. Raises UserError for another shape or dtype."""
        if hidden.shape != self.hidden.shape or hidden.dtype is not self.hidden.dtype:
            raise UserError(
                f"hidden has shape {list(hidden.shape)} and is {hidden.dtype}: this graph is of "
                f"{list(self.hidden.shape)}, {self.hidden.dtype}"
            )
        self.hidden.copy_(hidden)
        self._graph.replay()
        return self.out

    def replay(self) -> torch.Tensor:
        """The answer for what ``hidden`` holds, where the caller has written it there."""
        self._graph.replay()
        return self.out
