"""TunedKernels whose launches are emulated: all of the engine's path but the driver's part."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import torch

from engine.kernels.dispatcher import Dispatcher
from engine.kernels.scratch import Scratch
from engine.kernels.tuned import TunedKernels
from engine.kernels.work import Work
from search_spaces import Skew, space_for
from search_spaces.permute_problem import PermuteProblem
from templates import Built, CompilePool, Target, render
from tuner.emulated_passes import emulate_passes
from tuner.emulator import Unwritten

Sizes = TypeVar("Sizes", bound=Hashable)
# Which of an op's pointers are results: nothing may be read of them before it is written.
RESULTS = {"grouped_gemm": range(2, 3), "fused_gate": range(3, 9)}


class EmulatedLaunches:
    """Stands where a GPU's Launches do. ``launches`` counts what a GPU would have launched."""

    def __init__(self, dispatcher: Dispatcher, pool: CompilePool) -> None:
        self.launches = 0
        self._dispatcher, self._pool = dispatcher, pool
        self._memory: dict[int, torch.Tensor] = {}

    def know(self, tensors: Iterable[object]) -> None:
        """Memory that launches may be given pointers to; what is no tensor has none."""
        self._memory.update({t.data_ptr(): t for t in tensors if isinstance(t, torch.Tensor)})

    def forget(self) -> None:
        """Nothing is kept: each run chooses anew."""

    def run(
        self,
        sizes: Sizes,
        work: Callable[[Sizes], Work],
        pointers: tuple[int, ...],
        skew: Skew | None = None,
        config: str | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """Executes the passes that a GPU would be given, on the same memory."""
        found = work(sizes)
        problem = found.problem
        assert not isinstance(problem, PermuteProblem)
        choice = self._dispatcher.choose(problem, found.count, top_k=found.top_k, skew=skew)
        parsed = space_for(problem.op).config_type.parse(config or choice.config)
        [built] = self._pool.build([render(problem, parsed)], Target("compute_75", ()))
        assert isinstance(built, Built), built
        shape = found.launch_shape(parsed)
        operands = [self._memory[pointer] if pointer else None for pointer in pointers]
        marked = [
            Unwritten(tensor) if place in RESULTS[problem.op] else tensor
            for place, tensor in enumerate(operands)
        ]
        counters = torch.zeros(shape.counters, dtype=torch.int32)
        emulate_passes(built, shape, marked, counters)
        assert not counters.any()
        self.launches += len(shape.passes)


def emulated_kernels(db: str, pool: CompilePool) -> tuple[TunedKernels, EmulatedLaunches]:
    """Kernels of an RTX 2080 Ti on CPU tensors, and their launches."""
    kernels = TunedKernels(db, "cpu")
    launches = EmulatedLaunches(kernels._dispatcher, pool)
    kernels._launches = launches  # type: ignore[assignment]
    return kernels, launches
