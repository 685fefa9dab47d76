"""Gate: what a fused gate's tensors must be, and its torch reference on a CPU."""

from __future__ import annotations

from typing import NoReturn, TypeAlias

import torch

from engine.kernels.checks import ALIGNMENT_BYTES, check_tensor
from engine.kernels.routing import MOST_SLOTS, Routing
from engine.kernels.work import Work
from search_spaces import UserError
from search_spaces.gate_problem import GateProblem
from templates.gate_reference import choose, gate_logits
from templates.permute_reference import permute_reference

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}

# The problem, T, and the factor on the weights of chosen experts.
GateSizes: TypeAlias = "tuple[GateProblem, int, float]"


def check_gate(
    problem: GateProblem,
    x: torch.Tensor,
    router: torch.Tensor | None,
    bias: torch.Tensor | None,
    device: torch.device,
) -> tuple[int, int, int, int]:
    """T, and where x, router and bias begin in device memory, 0 for what the gate does without.

    x is hidden states [T, H] or logits [T, E], router [router_rows, H], both of the problem's
    dtype; bias fp32 [E]. Raises UserError for a wrong type, device, shape, layout or alignment,
    for one that is missing or superfluous, and where a gradient would be expected.
    """
    dtype = DTYPES[problem.dtype]
    try:
        tokens, width = x.shape
        x_begin, router_begin, bias_begin = x.data_ptr(), 0, 0
        good = (
            width == (problem.hidden or problem.experts)
            and tokens * problem.slots <= MOST_SLOTS
            and x.dtype is dtype
            and x.device == device
            and x.is_contiguous()
            and (router is not None) == bool(problem.hidden)
            and (bias is not None) == problem.bias
            and not (x.requires_grad and torch.is_grad_enabled())
        )
        if router is not None:
            router_begin = router.data_ptr()
            good = (
                good
                and router.shape == (problem.router_rows, problem.hidden)
                and router.dtype is dtype
                and router.device == device
                and router.is_contiguous()
                and not (router.requires_grad and torch.is_grad_enabled())
            )
        if bias is not None:
            bias_begin = bias.data_ptr()
            good = good and bias.shape == (problem.experts,) and bias.dtype is torch.float32
            good = good and bias.device == device and bias.is_contiguous()
        good = good and not (x_begin | router_begin) % ALIGNMENT_BYTES
    except (AttributeError, ValueError, RuntimeError):  # no tensors, other ranks, no storage
        good = False
    if not good:
        _refuse(problem, x, router, bias, device)
    return tokens, x_begin, router_begin, bias_begin


def _refuse(
    problem: GateProblem,
    x: torch.Tensor,
    router: torch.Tensor | None,
    bias: torch.Tensor | None,
    device: torch.device,
) -> NoReturn:
    """Raises UserError with the first rule that is broken."""
    dtype = DTYPES[problem.dtype]
    check_tensor("x", x, dtype, 2, device)
    width = problem.hidden or problem.experts
    if x.shape[1] != width:
        what = "hidden states" if problem.hidden else "logits"
        raise UserError(f"x has {x.shape[1]} columns: {problem.key} reads {what} [T, {width}]")
    if x.shape[0] * problem.slots > MOST_SLOTS:
        raise UserError(
            f"{x.shape[0]} tokens of {problem.slots} slots: at most {MOST_SLOTS} slots, split the "
            "batch"
        )
    for name, tensor, shape, its_dtype, wanted in (
        ("router", router, (problem.router_rows, problem.hidden), dtype, bool(problem.hidden)),
        ("bias", bias, (problem.experts,), torch.float32, problem.bias),
    ):
        if (tensor is not None) != wanted:
            raise UserError(
                f"{name} is {'missing' if wanted else 'given'}: {problem.key} has "
                f"{'one, ' + str(list(shape)) if wanted else 'none'}"
            )
        if tensor is None:
            continue
        check_tensor(name, tensor, its_dtype, len(shape), device)
        if tuple(tensor.shape) != shape:
            raise UserError(
                f"{name} has shape {list(tensor.shape)}: {problem.key} reads {list(shape)}"
            )
    raise UserError(
        "x or router requires a gradient, and this kernel has none: call it under "
        "torch.inference_mode() or torch.no_grad()"
    )


def check_routing(
    out: Routing, problem: GateProblem, tokens: int, device: torch.device
) -> tuple[int, ...]:
    """Where the tensors of ``out`` begin. Raises UserError unless it takes what the gate says."""
    layout = out.layout
    sizes = (layout.tokens, layout.slots, layout.experts)
    if sizes != (tokens, problem.slots, problem.all_experts):
        raise UserError(
            f"out is for {layout.tokens} tokens of {layout.slots} slots among {layout.experts} "
            f"experts: {tokens} tokens of {problem.key} need {problem.slots} slots among "
            f"{problem.all_experts}"
        )
    if layout.device != device:
        raise UserError(f"out is on {layout.device}: must be on {device}, make it there")
    if out.weights is None or out.flag is None:
        raise UserError("out has no weights or no flag: make it with Routing.empty")
    return layout.pointers


def gate_work(sizes: GateSizes) -> Work:
    """What a call's sizes stand for."""
    problem, tokens, scaling = sizes
    return Work(problem, tokens, problem.top_k, scaling)


def gate_on_cpu(
    problem: GateProblem,
    x: torch.Tensor,
    router: torch.Tensor | None,
    bias: torch.Tensor | None,
    scaling: float,
    out: Routing,
) -> None:
    """Fills ``out`` as the kernel does, in fp32."""
    logits = gate_logits(problem, x, router)
    ids, weights = choose(problem, logits, bias, scaling)
    permutation = permute_reference(ids, problem.all_experts)
    assert out.weights is not None and out.flag is not None
    out.ids.copy_(ids)
    out.weights.copy_(weights)
    for name, values in permutation._asdict().items():
        getattr(out, name).copy_(values)
    out.flag.bitwise_or_(logits.isnan().any().int())
