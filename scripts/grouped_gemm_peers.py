"""The same grouped GEMM by torch: what a model without Light-MoE would run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch

from tuner.inputs import Inputs


@dataclass(frozen=True)
class Peer:
    """``launch`` queues it on torch's current stream, ``result`` is C of the last launch."""

    name: str
    launch: Callable[[], object]
    result: Callable[[], torch.Tensor]


def grouped_mm(inputs: Inputs) -> Peer | None:
    """torch's grouped GEMM in bf16, the only type it is fast in; None before Ampere."""
    if inputs.a.is_cuda and torch.cuda.get_device_capability(inputs.a.device) < (8, 0):
        return None
    # Public since torch 2.10, and the private name before.
    function = getattr(torch.nn.functional, "grouped_mm", torch._grouped_mm)
    a, b, ends = inputs.a.bfloat16(), inputs.b.bfloat16().transpose(-2, -1), inputs.offsets[1:]
    last: list[torch.Tensor] = []

    def launch() -> None:
        last[:] = [function(a, b, offs=ends)]

    return Peer("grouped_mm bf16", launch, lambda: last[0])


def expert_loop(inputs: Inputs) -> Peer:
    """One cuBLAS product per active expert in fp16, with the host's knowledge of all counts.

    On a GPU it is replayed as a CUDA graph: its many launches would measure the host otherwise. A
    model could not do so, since the router's counts change with every step.
    """
    c = torch.empty_like(inputs.c)
    ends = [0, *accumulate(inputs.histogram)]
    parts = [(e, i, j) for e, (i, j) in enumerate(pairwise(ends)) if i < j]

    def run() -> None:
        for expert, first, last in parts:
            torch.mm(inputs.a[first:last], inputs.b[expert].T, out=c[first:last])

    if not inputs.a.is_cuda:
        return Peer("expert loop fp16", run, lambda: c)
    run()  # cuBLAS sets itself up outside the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return Peer("expert loop fp16", graph.replay, lambda: c)
