"""One contest of gates: the fused kernel and torch's chain of operations, eager and compiled."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from engine import TunedKernels
from engine.kernels.routing import Routing
from scripts.moe_layer_contest import one_line
from scripts.moe_peers.layer import draw_hidden
from scripts.moe_peers.peer import FAILURES
from search_spaces import Skew, UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.models import ModelShape
from tuner.timing import FULL, Stopwatch, Timing

OURS, EAGER, COMPILED = "fused_gate", "torch chain", "torch.compile"
WEIGHT_ERROR = 1e-2  # of a routing weight: the chain's logits are rounded to fp16

Chain = Callable[[torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class GateEntry:
    """One contestant's result. ``error`` says why there is no time."""

    name: str
    time_us: float | None = None
    spread_us: float | None = None
    error: str | None = None

    def json(self) -> dict[str, Any]:
        """What is known of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Inputs:
    """x is hidden states [T, H] with a ``router`` [E, H], or logits [T, E]; all fp16."""

    model: ModelShape
    problem: GateProblem
    x: torch.Tensor
    router: torch.Tensor | None


def make_inputs(
    model: ModelShape, logits: bool, tokens: int, seed: int, device: torch.device
) -> Inputs:
    """Evenly routed tokens, whose choice no rounding changes."""
    generator = torch.Generator(device).manual_seed(seed)
    shape, scale = (model.experts, model.hidden), model.hidden**-0.5
    router = (torch.randn(shape, generator=generator, device=device) * scale).half()
    hidden = draw_hidden(model, router, tokens, Skew(), seed)
    problem = model.gate(logits=logits)
    return Inputs(model, problem, F.linear(hidden, router) if logits else hidden,
                  None if logits else router)  # fmt: skip


def torch_chain(model: ModelShape) -> Chain:
    """Softmax, top-k and a stable sort by expert: (weights, ids, offsets, slots) of torch.

    It computes less than the fused kernel: neither ``rows`` nor ``inverse`` nor shared experts.
    """

    def chain(x: torch.Tensor, router: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        logits = x if router is None else F.linear(x, router)
        weights, ids = torch.topk(torch.softmax(logits.float(), dim=-1), model.top_k, dim=-1)
        if model.norm_topk:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        by_expert, slots = torch.sort(ids.flatten(), stable=True)
        experts = torch.arange(model.experts + 1, device=x.device)
        return weights, ids, torch.searchsorted(by_expert, experts), slots

    return chain


@lru_cache(maxsize=1)
def _compiled(model: ModelShape) -> Chain:
    torch._dynamo.reset()
    chain: Chain = torch.compile(torch_chain(model), dynamic=True)
    return chain


def check_routing(routing: Routing, inputs: Inputs) -> None:
    """Against the same by torch on fp32 logits. Raises UserError with what differs first."""
    problem, model, x = inputs.problem, inputs.model, inputs.x.float()
    logits = x if inputs.router is None else x @ inputs.router.float().T
    weights, ids, _, _ = torch_chain(model)(logits, None)
    shared = torch.arange(problem.experts, problem.all_experts, device=x.device)
    ids = torch.cat([ids, shared.expand(x.shape[0], -1)], dim=1)
    by_expert, slots = torch.sort(ids.flatten(), stable=True)
    experts = torch.arange(problem.all_experts + 1, device=x.device)
    offsets = torch.searchsorted(by_expert, experts)
    inverse = torch.empty_like(slots)
    inverse[slots] = torch.arange(slots.numel(), device=x.device)
    expected = {
        "ids": ids, "offsets": offsets, "slots": slots, "rows": slots // problem.slots,
        "inverse": inverse.view_as(ids),
    }  # fmt: skip
    for name, values in expected.items():
        if not torch.equal(getattr(routing, name).long(), values):
            raise UserError(f"wrong result: {name} differ from torch's")
    assert routing.weights is not None
    given = routing.weights[:, : model.top_k]
    if not bool(((given - weights).abs() <= WEIGHT_ERROR * weights).all()):
        raise UserError("wrong result: weights differ from torch's")


def contest(
    stopwatch: Stopwatch,
    kernels: TunedKernels,
    inputs: Inputs,
    seed: int,
    *,
    compiles: bool = True,
) -> list[GateEntry]:
    """Ours is checked, then all are captured and their replays timed in turns.

    Where there is no time for what torch.compile takes, some 10 s, ``compiles`` is False.
    """
    routing = Routing.empty(inputs.x.shape[0], inputs.problem, inputs.x.device)
    chains = {EAGER: torch_chain(inputs.model)}
    reasons: dict[str, str] = {}
    if compiles:
        chains[COMPILED] = _compiled(inputs.model)
    else:
        reasons[COMPILED] = "no time left to compile"

    def ours() -> None:
        kernels.fused_gate(inputs.x, inputs.router, problem=inputs.problem, out=routing)

    graphs: dict[str, torch.cuda.CUDAGraph] = {}
    for name in (OURS, *chains):
        try:
            run = ours if name == OURS else _bind(chains[name], inputs)
            graph = _captured(run)
            if name == OURS:
                for tensor in (routing.ids, routing.offsets, routing.slots, routing.inverse):
                    tensor.fill_(-7)
                graph.replay()
                check_routing(routing, inputs)
            graphs[name] = graph
        except FAILURES as error:
            reasons[name] = one_line(error)
    launches = [graph.replay for graph in graphs.values()]
    raced = stopwatch.race(launches, FULL, random.Random(seed)) if launches else []
    timings: dict[str, Timing] = dict(zip(graphs, raced, strict=True))
    return [_entry(name, timings.get(name), reasons.get(name)) for name in (OURS, EAGER, COMPILED)]


def _bind(chain: Chain, inputs: Inputs) -> Callable[[], object]:
    return lambda: chain(inputs.x, inputs.router)


def _captured(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        run()
        with torch.cuda.graph(graph):
            run()
    return graph


def _entry(name: str, timing: Timing | None, reason: str | None) -> GateEntry:
    if timing is None:
        return GateEntry(name, error=reason)
    return GateEntry(name, timing.median_us, timing.spread_us)
