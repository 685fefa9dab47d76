"""Workspace: all memory that an MoE layer writes besides its answer, allocated once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.kernels.routing import Routing
from engine.kernels.scratch import Scratch
from search_spaces import UserError
from search_spaces.layer_problem import LayerProblem


@dataclass(frozen=True)
class Buffers:
    """A workspace as so many tokens use it: routing, and activations [T x slots, I] fp16."""

    routing: Routing
    activations: torch.Tensor


class Workspace:
    """Memory for up to ``max_tokens`` tokens at a time of layers of one shape.

    Layers that run one after another on one stream share one; two streams need one each.
    ``scratch`` is what the kernels themselves need, and grows while they are first called;
    ``flag`` int32 [1] has bit 0 set by a NaN among the logits.
    Raises UserError for fewer than one token.
    """

    def __init__(self, problem: LayerProblem, max_tokens: int, device: torch.device) -> None:
        if max_tokens < 1:
            raise UserError(f"max_tokens={max_tokens}: must be at least 1")
        self.problem = problem
        self.max_tokens = max_tokens
        self.scratch = Scratch(device)
        routing = Routing.empty(max_tokens, problem.gate, device)
        rows = max_tokens * problem.top_k
        activations = torch.empty(rows, problem.intermediate, dtype=torch.float16, device=device)
        self._all = Buffers(routing, activations)
        assert routing.flag is not None
        self.flag = routing.flag
        self._nan_copy = torch.zeros(1, dtype=torch.int32, pin_memory=device.type == "cuda")
        # Making seven views takes longer than launching a kernel: made once for each T.
        self._by_tokens: dict[int, Buffers] = {max_tokens: self._all}

    def check(self, problem: LayerProblem, device: torch.device) -> None:
        """Raises UserError unless a layer of this problem can use it."""
        if self.problem != problem:
            raise UserError(
                f"the workspace is for {self.problem.key}: {problem.key} needs one of its own"
            )
        if self.flag.device != device:
            raise UserError(f"the workspace is on {self.flag.device}: make it on {device}")

    def buffers(self, tokens: int) -> Buffers:
        """The memory for ``tokens`` in 1..max_tokens tokens."""
        found = self._by_tokens.get(tokens)
        if found is None:
            rows = tokens * self.problem.top_k
            found = Buffers(self._all.routing.first(tokens), self._all.activations[:rows])
            self._by_tokens[tokens] = found
        return found

    def nan_seen(self) -> bool:
        """Whether the newest copy of the flag that has arrived is set; queues the next copy.

        Waits for nothing: the copy made here, on torch's current stream, has arrived when the
        caller has waited for anything that was queued after it, such as the copy of its tokens.
        """
        seen = bool(self._nan_copy.item())
        self._nan_copy.copy_(self.flag, non_blocking=True)
        return seen

    def clear_nan(self) -> None:
        """Clears the flag, on torch's current stream; copies queued before still tell the old."""
        self.flag.zero_()
