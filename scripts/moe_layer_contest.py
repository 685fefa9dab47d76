"""One contest of MoE layers: checked against fp32, captured in CUDA graphs, timed in turns."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from scripts.moe_peers.layer import Layer, reference
from scripts.moe_peers.peer import FAILURES, Forward, Peer
from search_spaces import UserError
from tuner.timing import FULL, Stopwatch, Timing

CHECKED_TOKENS = 64
# ||out - ref|| / ||ref||: what fp16 and bf16 operands and activations may cost, with room.
ALLOWED = {torch.float16: 5e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Entry:
    """One contestant's result. ``error`` says why there is no time."""

    name: str
    note: str
    rel_error: float | None = None
    time_us: float | None = None
    spread_us: float | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    gpu_busy: str | None = None
    error: str | None = None

    def json(self) -> dict[str, Any]:
        """What is known of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Sample:
    """Tokens to look at, int64[S], and their fp32 results [S, H]."""

    tokens: torch.Tensor
    values: torch.Tensor


def sample(layer: Layer, hidden: torch.Tensor, seed: int) -> Sample:
    """The first and the last token, and others at random."""
    count, generator = hidden.shape[0], torch.Generator().manual_seed(seed)
    drawn = torch.randperm(count, generator=generator)[: CHECKED_TOKENS - 2].tolist()
    tokens = torch.tensor(sorted({0, count - 1, *drawn}), device=hidden.device)
    return Sample(tokens, reference(layer, hidden[tokens]))


def check(out: torch.Tensor, expected: Sample, dtype: torch.dtype) -> float:
    """The relative error of the sampled tokens. Raises UserError when it is too large."""
    if not bool(torch.isfinite(out).all()):
        raise UserError("wrong result: not every element is finite")
    values = expected.values
    error = float((out[expected.tokens].float() - values).norm() / values.norm())
    if not error <= ALLOWED[dtype]:
        raise UserError(f"wrong result: relative error {error:.1e}")
    return error


def captured(forward: Forward) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """A graph of ``forward``, which has run before, and where a replay leaves the result."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = forward()
    return graph, out


def contest(
    stopwatch: Stopwatch,
    peers: Sequence[Peer],
    layers: Mapping[torch.dtype, Layer],
    hidden: torch.Tensor,
    seed: int,
) -> list[Entry]:
    """Entries in the order of ``peers``; what cannot run, or is wrong, is not timed."""
    expected = sample(layers[torch.float16], hidden, seed)
    graphs: dict[str, torch.cuda.CUDAGraph] = {}
    alive: list[Forward] = []  # a graph reads the tensors it saw, and keeps none of them
    errors: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for peer in peers:
        try:
            forward = peer.prepare(layers[peer.dtype], hidden.to(peer.dtype))
            with torch.no_grad():
                forward()  # compiles and loads, which no graph can hold
                graph, out = captured(forward)
            out.fill_(torch.nan)
            graph.replay()
            errors[peer.name] = check(out, expected, peer.dtype)
            graphs[peer.name] = graph
            alive.append(forward)
        except FAILURES as error:
            reasons[peer.name] = one_line(error)
    names = list(graphs)
    timings: dict[str, Timing] = {}
    if names:
        launches = [graphs[name].replay for name in names]
        raced = stopwatch.race(launches, FULL, random.Random(seed))
        timings = dict(zip(names, raced, strict=True))
    return [_entry(p, timings.get(p.name), errors.get(p.name), reasons.get(p.name)) for p in peers]


def one_line(error: BaseException) -> str:
    """The first line of what it says, for a cell of a table."""
    first = (str(error).strip().splitlines() or [""])[0].replace("|", "/")
    text = first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
    return text[:160]


def _entry(peer: Peer, timing: Timing | None, rel_error: float | None, reason: str | None) -> Entry:
    if timing is None:
        return Entry(peer.name, peer.note, rel_error, error=reason)
    state = timing.state
    return Entry(
        peer.name, peer.note, rel_error, timing.median_us, timing.spread_us,
        state.sm_clock_mhz, state.temperature_c, state.busy,
    )  # fmt: skip
