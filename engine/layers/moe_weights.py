"""MoEWeights: an MoE layer's weights as its kernels read them, from Hugging Face's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from engine.kernels.checks import check_tensor
from engine.layers.moe_config import MoEConfig
from search_spaces import UserError
from search_spaces.layer_problem import LayerProblem
from search_spaces.problem import PAIR_BLOCK

# gate, up and down projections under their usual names, then Mixtral's.
_PROJECTIONS = (("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2"))
_SHARED = ("shared_experts", "shared_expert")  # DeepSeek's, Qwen2-MoE's
_SHARED_GATE = "shared_expert_gate.weight"
_BIAS = "gate.e_score_correction_bias"


@dataclass(frozen=True)
class MoEWeights:
    """``router`` [router_rows, H], ``gate_up`` [E', 2 I, H], ``down`` [E', H, I], all fp16.

    E' counts routed and shared experts; gate and up rows alternate in blocks of 8, as
    :func:`engine.kernels.interleave_gate_up` lays them out. The router's last row is the shared
    gate's, if there is one. ``bias`` fp32 [E] corrects the scores that experts are chosen by.
    """

    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def from_hf(
        cls, state: Mapping[str, torch.Tensor], config: MoEConfig, device: torch.device
    ) -> MoEWeights:
        """Packs a block's ``state_dict``, or the tensors that a checkpoint has for it.

        Names are those within the block: ``gate.weight``, ``experts.gate_up_proj`` [E, 2 I, H] and
        ``experts.down_proj`` [E, H, I], or ``experts.N.gate_proj.weight`` and so on for each
        expert (Mixtral's w1, w3, w2 too), ``shared_expert(s).*_proj.weight``,
        ``shared_expert_gate.weight``, ``gate.e_score_correction_bias``. They are copied to
        ``device``, one expert at a time. Raises UserError for one that is missing, unknown, or of
        another shape or dtype than the config says.
        """
        named = _Named(state)
        weights = cls._empty(config, device)
        _copy_experts(named, config, weights)
        _copy_shared(named, config, weights)
        gate = config.problem.gate
        weights.router[: gate.experts] = named.take("gate.weight", (gate.experts, gate.hidden))
        if gate.shared_gate:
            weights.router[gate.experts :] = named.take(_SHARED_GATE, (1, gate.hidden))
        if weights.bias is not None:
            weights.bias.copy_(named.take(_BIAS, (gate.experts,), dtype=None))
        named.refuse_rest()
        return weights

    @classmethod
    def _empty(cls, config: MoEConfig, device: torch.device) -> MoEWeights:
        gate, size = config.problem.gate, config.problem.intermediate

        def halves(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=torch.float16, device=device)

        return cls(
            router=halves(gate.router_rows, gate.hidden),
            gate_up=halves(gate.all_experts, 2 * size, gate.hidden),
            down=halves(gate.all_experts, gate.hidden, size),
            bias=torch.empty(gate.experts, device=device) if gate.bias else None,
        )

    def check(self, problem: LayerProblem, device: torch.device) -> None:
        """Raises UserError unless these are a layer's weights as its kernels read them."""
        gate, size = problem.gate, problem.intermediate
        if (self.bias is not None) != gate.bias:
            raise UserError(
                f"bias is {'missing' if gate.bias else 'given'}: {gate.key} has "
                f"{'one' if gate.bias else 'none'}"
            )
        for name, shape in (
            ("router", (gate.router_rows, gate.hidden)),
            ("gate_up", (gate.all_experts, 2 * size, gate.hidden)),
            ("down", (gate.all_experts, gate.hidden, size)),
            *([("bias", (gate.experts,))] if gate.bias else []),
        ):
            tensor: torch.Tensor = getattr(self, name)
            dtype = torch.float32 if name == "bias" else torch.float16
            check_tensor(name, tensor, dtype, len(shape), device)
            if tuple(tensor.shape) != shape:
                raise UserError(
                    f"{name} has shape {list(tensor.shape)}: {problem.key} needs {list(shape)}"
                )

    def put(self, expert: int, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> None:
        """Copies gate and up [size, H] and down [H, size] of one expert; a rest of I is zero."""
        size = gate.shape[0]
        pairs = self.gate_up[expert].unflatten(0, (-1, 2, PAIR_BLOCK))
        if size < self.down.shape[2]:
            self.gate_up[expert].zero_()
            self.down[expert].zero_()
        blocks = size // PAIR_BLOCK
        pairs[:blocks, 0] = gate.unflatten(0, (-1, PAIR_BLOCK)).to(pairs.device)
        pairs[:blocks, 1] = up.unflatten(0, (-1, PAIR_BLOCK)).to(pairs.device)
        self.down[expert, :, :size] = down


class _Named:
    """Tensors by name, each to be taken once."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._left = dict(state)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = torch.float16
    ) -> torch.Tensor:
        """The tensor of that name. Raises UserError unless it is there, with this shape, dtype."""
        tensor = self._left.pop(name, None)
        if tensor is None:
            near = ", ".join(sorted(self._left)[:4]) or "nothing"
            raise UserError(f"weight '{name}' is missing: the state has {near}")
        if tuple(tensor.shape) != shape:
            raise UserError(
                f"weight '{name}' has shape {list(tensor.shape)}: the config says {list(shape)}"
            )
        if dtype is not None and tensor.dtype is not dtype:
            raise UserError(
                f"weight '{name}' is {tensor.dtype}: must be {dtype}, convert it with .to({dtype})"
            )
        if tensor.is_meta:
            raise UserError(f"weight '{name}' is on the meta device: load its values first")
        return tensor.detach()

    def first(self, *names: str) -> str:
        """The one of these names that is there, else the first."""
        return next((name for name in names if name in self._left), names[0])

    def refuse_rest(self) -> None:
        """Raises UserError when something was not taken: it would change the layer's answer."""
        if self._left:
            name = min(self._left)
            raise UserError(f"weight '{name}' has no place in this layer: the config has no such")


def _copy_experts(named: _Named, config: MoEConfig, weights: MoEWeights) -> None:
    experts, hidden, size = (
        config.problem.gate.experts,
        config.problem.hidden,
        config.problem.intermediate,
    )
    if "experts.gate_up_proj" in named:
        gate_up = named.take("experts.gate_up_proj", (experts, 2 * size, hidden))
        down = named.take("experts.down_proj", (experts, hidden, size))
        for expert in range(experts):
            gate, up = gate_up[expert].chunk(2)
            weights.put(expert, gate, up, down[expert])
        return
    for expert in range(experts):
        weights.put(expert, *_take_mlp(named, f"experts.{expert}", size, hidden))


def _copy_shared(named: _Named, config: MoEConfig, weights: MoEWeights) -> None:
    """Cuts an MLP of the shared size into experts of size I: its columns add up all the same."""
    problem = config.problem
    if not problem.gate.shared:
        return
    size = problem.intermediate
    prefix = next((p for p in _SHARED if f"{p}.gate_proj.weight" in named), _SHARED[0])
    gate, up, down = _take_mlp(named, prefix, config.shared_intermediate, problem.hidden)
    parts = zip(gate.split(size), up.split(size), down.split(size, dim=1), strict=True)
    for number, (its_gate, its_up, its_down) in enumerate(parts):
        weights.put(problem.gate.experts + number, its_gate, its_up, its_down)


def _take_mlp(
    named: _Named, prefix: str, size: int, hidden: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """gate and up [size, H] and down [H, size] of one MLP."""
    shapes = ((size, hidden), (size, hidden), (hidden, size))
    gate, up, down = (
        named.take(named.first(*(f"{prefix}.{name}.weight" for name in names)), shape)
        for names, shape in zip(_PROJECTIONS, shapes, strict=True)
    )
    return gate, up, down
