"""MoE: a mixture-of-experts layer of three tuned kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from engine.kernels.tuned import TunedKernels
from engine.layers.moe_config import MoEConfig
from engine.layers.moe_weights import MoEWeights
from engine.layers.workspace import Workspace
from search_spaces import UserError

MAX_TOKENS = 4096


class MoE(nn.Module):
    """hidden [..., H] -> [..., H], fp16: router, chosen and shared experts, their weighted sum.

    Kernels are picked at each call from the number of tokens T, by what ``kernels`` knows of this
    GPU; ``kernels.force`` overrides that for one problem of the config. On a CPU torch references
    answer. More than ``max_tokens`` tokens are taken in pieces. ``workspace`` is memory that
    layers of equal shape share on one stream; without it the layer allocates its own.
    """

    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    bias: torch.Tensor | None

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
        if config.problem.numerics is not kernels.numerics:
            raise UserError(
                f"{config.problem.key} has {config.problem.numerics.value} numerics and these "
                f"kernels {kernels.numerics.value}: make both the same"
            )
        if workspace is not None and workspace.problem != config.problem:
            raise UserError(
                f"the workspace is for {workspace.problem.key}: make one for {config.problem.key}"
            )
        self.config = config
        self.kernels = kernels
        self.workspace = workspace or Workspace(config.problem, max_tokens, kernels.device)
        for name in ("router", "gate_up", "down", "bias"):
            self.register_buffer(name, getattr(weights, name))

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
        known = (
            config if isinstance(config, MoEConfig) else MoEConfig.from_hf(config, kernels.numerics)
        )
        state = block.state_dict() if isinstance(block, nn.Module) else block
        weights = MoEWeights.from_hf(state, known, kernels.device)
        return cls(known, weights, kernels, max_tokens=max_tokens, workspace=workspace)

    def forward(self, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """[..., H] fp16, contiguous, to the same shape, in ``out`` if there is one.

        Nothing waits for the device, and nothing but the answer is allocated once the layer has
        met as many tokens. Raises UserError for a wrong shape, dtype, device or layout.
        """
        if hidden.shape[-1] != self.config.problem.hidden:
            raise UserError(
                f"hidden has shape {list(hidden.shape)}: its last dimension must be the layer's "
                f"hidden size, {self.config.problem.hidden}"
            )
        out = torch.empty_like(hidden) if out is None else out
        tokens = hidden.reshape(-1, self.config.problem.hidden)
        answer = out.view(-1, self.config.problem.hidden)
        most = self.workspace.max_tokens
        for begin in range(0, tokens.shape[0], most):
            self._run(tokens[begin : begin + most], answer[begin : begin + most])
        return out

    def nan_seen(self) -> bool:
        """Whether a NaN among the logits is known of; see :meth:`Workspace.nan_seen`."""
        return self.workspace.nan_seen()

    def _run(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """At most max_tokens tokens [T, H], T >= 1."""
        problem, kernels = self.config.problem, self.kernels
        buffers, scratch = self.workspace.buffers(hidden.shape[0]), self.workspace.scratch
        routing = kernels.fused_gate(
            hidden, self.router, problem=problem.gate, bias=self.bias, scaling=self.config.scaling,
            out=buffers.routing, scratch=scratch,
        )  # fmt: skip
        kernels.grouped_gemm(
            hidden, self.gate_up, routing.offsets, rows=routing.rows, epilogue=problem.epilogue,
            top_k=problem.top_k, out=buffers.activations, scratch=scratch,
        )  # fmt: skip
        kernels.grouped_gemm(
            buffers.activations, self.down, routing.offsets, slots=routing.slots,
            weights=routing.weights, combine="ordered", top_k=problem.top_k, out=out,
            scratch=scratch,
        )  # fmt: skip
