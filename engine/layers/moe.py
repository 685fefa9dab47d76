"""MoE: a mixture-of-experts layer of three tuned kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from engine.kernels.load_tracker import LoadTracker
from engine.kernels.tuned import TunedKernels
from engine.layers.graphed import GraphedMoE
from engine.layers.moe_config import MoEConfig
from engine.layers.moe_weights import MoEWeights
from engine.layers.workspace import Workspace
from engine.ops import fused_gate, grouped_gemm, handle_of
from search_spaces import UserError

MAX_TOKENS = 4096

# Names of the gate's, the first and the second GEMM's config; None: what is tuned for each.
_Configs = tuple["str | None", "str | None", "str | None"]


class MoE(nn.Module):
    """hidden [..., H] -> [..., H], fp16: router, chosen and shared experts, their weighted sum.

    Kernels are picked at each call from the number of tokens T, by what ``kernels`` knows of this
    GPU; ``kernels.force`` overrides that, for the layer's problem or for one of its parts. On a
    CPU torch references answer. More than ``max_tokens`` tokens are taken in pieces. ``workspace``
    is memory that layers of equal shape share on one stream, and its ``max_tokens`` then counts;
    without it the layer allocates its own. Products that exceed 65504 become 65504, before and
    after they are weighted and summed. Raises UserError where config, weights, kernels and
    workspace do not belong together.
    """

    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    bias: torch.Tensor | None
    nan_flag: torch.Tensor

    def __init__(
        self,
        config: MoEConfig,
        weights: MoEWeights,
        kernels: TunedKernels,
        *,
        max_tokens: int = MAX_TOKENS,
        workspace: Workspace | None = None,
    ) -> None:
        super().__init__()
        problem = config.problem
        if problem.numerics is not kernels.numerics:
            raise UserError(
                f"{problem.key} has {problem.numerics.value} numerics and these kernels "
                f"{kernels.numerics.value}: make both the same"
            )
        weights.check(problem, kernels.device)
        if workspace is not None:
            workspace.check(problem, kernels.device)
        self.config = config
        self.kernels = kernels
        self.workspace = workspace or Workspace(problem, max_tokens, kernels.device)
        for name in ("router", "gate_up", "down", "bias"):
            self.register_buffer(name, getattr(weights, name))
        self.register_buffer("nan_flag", self.workspace.flag, persistent=False)
        self.loads: LoadTracker | None = None
        if kernels.follows_loads:
            gate = problem.gate
            self.loads = LoadTracker(gate.experts, gate.top_k, kernels.device)
        self._handle = handle_of(kernels)
        self._gate_key = problem.gate.key
        self._configs: dict[tuple[int, int, int], _Configs] = {}

    @classmethod
    def from_hf(
        cls,
        block: nn.Module | Mapping[str, torch.Tensor],
        config: MoEConfig | Mapping[str, Any] | Any,
        kernels: TunedKernels,
        *,
        max_tokens: int = MAX_TOKENS,
        workspace: Workspace | None = None,
    ) -> MoE:
        """The layer of a transformers MoE block, or of its state under the block's own names.

        ``config`` is an MoEConfig, or the model's config: an object of transformers, or what its
        config.json holds. Raises UserError as MoEConfig and MoEWeights do.
        """
        if isinstance(config, MoEConfig):
            known = config
        else:
            known = MoEConfig.from_hf(config, kernels.numerics)
        state = block.state_dict() if isinstance(block, nn.Module) else block
        weights = MoEWeights.from_hf(state, known, kernels.device)
        return cls(known, weights, kernels, max_tokens=max_tokens, workspace=workspace)

    def forward(self, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """[..., H] fp16, contiguous, to the same shape, in ``out`` if there is one.

        Nothing waits for the device, and nothing but the answer is allocated once the layer has
        met as many tokens. Raises UserError for a wrong shape, dtype, device or layout.
        """
        if torch.compiler.is_compiling():
            answer = self._traced(hidden)
            return answer if out is None else out.copy_(answer)
        self._check(hidden)
        if out is None:
            out = torch.empty_like(hidden)
        elif out.shape != hidden.shape or not out.is_contiguous():
            raise UserError(
                f"out has shape {list(out.shape)} and strides {list(out.stride())}: must be "
                f"{list(hidden.shape)} and contiguous"
            )
        most, tokens, answer = self.workspace.max_tokens, hidden, out
        if hidden.ndim != 2:  # a view takes longer than a check of its tensor
            width = self.config.problem.hidden
            tokens, answer = hidden.view(-1, width), out.view(-1, width)
        if tokens.shape[0] <= most:
            self._run(tokens, answer)
        else:
            for begin in range(0, tokens.shape[0], most):
                self._run(tokens[begin : begin + most], answer[begin : begin + most])
        return out

    def capture(self, tokens: int) -> GraphedMoE:
        """The layer for exactly ``tokens`` in 1..max_tokens tokens, as one CUDA graph.

        Raises UserError for other numbers, and on a CPU.
        """
        return GraphedMoE(self, tokens)

    def nan_seen(self) -> bool:
        """Whether a NaN among the logits is known of; see :meth:`Workspace.nan_seen`."""
        return self.workspace.nan_seen()

    def _check(self, hidden: torch.Tensor) -> None:
        """What no kernel can see of a flat view; they check the rest."""
        width = self.config.problem.hidden
        if hidden.shape[-1:] != (width,):
            raise UserError(
                f"hidden has shape {list(hidden.shape)}: its last dimension must be the layer's "
                f"hidden size, {width}"
            )
        if not hidden.is_contiguous():
            raise UserError(
                f"hidden has strides {list(hidden.stride())}: must be contiguous, token by token; "
                "call .contiguous()"
            )

    def _run(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """At most max_tokens tokens [T, H]."""
        tokens = hidden.shape[0]
        if tokens == 0:
            return
        problem, kernels, top_k = self.config.problem, self.kernels, self.config.problem.top_k
        buffers, scratch = self.workspace.buffers(tokens), self.workspace.scratch
        gate, gate_up, down = self._chosen(tokens)
        routing, activations = buffers.routing, buffers.activations
        weights: dict[str, Any] = self._buffers  # as attributes each takes nn.Module 0.8 us
        kernels.fused_gate(
            hidden, weights["router"], problem=problem.gate, bias=weights["bias"],
            scaling=self.config.scaling, out=routing, config=gate, scratch=scratch,
        )  # fmt: skip
        if self.loads is not None:
            self.loads.record(routing.offsets)
        kernels.grouped_gemm(
            hidden, weights["gate_up"], routing.offsets, rows=routing.rows,
            epilogue=problem.epilogue, top_k=top_k, out=activations, config=gate_up,
            scratch=scratch,
        )  # fmt: skip
        kernels.grouped_gemm(
            activations, weights["down"], routing.offsets, slots=routing.slots,
            weights=routing.weights, combine="ordered", top_k=top_k, out=out, config=down,
            scratch=scratch,
        )  # fmt: skip

    def _chosen(self, tokens: int) -> _Configs:
        """Configs that were measured together, or each part's own; looked up once for each T."""
        if self.kernels.device.type == "cpu":
            return None, None, None
        skew = None if self.loads is None else self.loads.skew
        key = (tokens, self.kernels.skew_index(skew), self.kernels.revision)
        found = self._configs.get(key)
        if found is None:
            choice = self.kernels.choose_layer(self.config.problem, tokens, skew)
            gate, gate_up, down = map(str, choice.config.parts)
            found = self._configs[key] = gate, gate_up, down
        return found

    def _traced(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same of ops that torch.compile and torch.export know, without the workspace."""
        problem = self.config.problem
        tokens = hidden.reshape(-1, problem.hidden)
        _, weights, offsets, rows, slots, _ = fused_gate(
            tokens, self.router, self.bias, self.nan_flag, self._gate_key, self.config.scaling,
            self._handle,
        )  # fmt: skip
        activations = grouped_gemm(
            tokens, self.gate_up, offsets, rows, None, None, problem.epilogue, "",
            problem.top_k, self._handle,
        )  # fmt: skip
        answer: torch.Tensor = grouped_gemm(
            activations, self.down, offsets, None, slots, weights, "plain", "ordered",
            problem.top_k, self._handle,
        )  # fmt: skip
        return answer.view(hidden.shape)
