"""Loader: configs to kernels on one GPU, each built and loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from engine.kernels.idle import idle_operands
from engine.kernels.launch import Counters, Launch, LoadedKernel
from search_spaces import GpuSpec, UserError
from search_spaces.problems import KernelProblem
from templates import (
    BuildError,
    CompilePool,
    Kernel,
    KernelCache,
    Target,
    Variant,
    launch_shape,
    render,
)


class KernelLoader:
    """Kernels of the GPU ``device``, which must be current for whoever calls ``load``.

    Not safe to share between threads; the kernels it returns are.
    """

    def __init__(self, gpu: GpuSpec, device: torch.device, counters: Counters) -> None:
        self._arch = gpu.arch
        self._device = device
        self._counters = counters
        self._cache = KernelCache()
        self._known: dict[tuple[KernelProblem, Any], LoadedKernel] = {}
        self._by_entry: dict[str, LoadedKernel] = {}  # problems may share machine code

    def load(self, problem: KernelProblem, configs: Sequence[Any]) -> list[LoadedKernel]:
        """Kernels in the order of ``configs``; what is not in the kernel cache is compiled.

        Raises UserError when the toolchain is incomplete, when a kernel does not build, and while
        torch's current stream is captured: loading is not allowed then.
        """
        keys = [(problem, config.compile_key) for config in configs]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        variants = {key: render(*key) for key in new}
        missing = {
            variant.entry: (key, variant)
            for key, variant in variants.items()
            if variant.entry not in self._by_entry
        }
        if missing:
            self._load_missing(problem, missing)
        for key, variant in variants.items():
            self._known[key] = self._by_entry[variant.entry]
        return [self._known[key] for key in keys]

    def _load_missing(
        self, problem: KernelProblem, missing: dict[str, tuple[tuple[KernelProblem, Any], Variant]]
    ) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise UserError(
                f"the kernel for {problem.key} is not loaded yet and cannot be while a CUDA "
                f"graph is captured: call warm_up or {problem.op} once before"
            )
        variants = [variant for _, variant in missing.values()]
        target = Target.for_tier(variants[0].tier, self._arch)
        self._build(variants, target)
        for entry, ((_, config), variant) in missing.items():
            self._by_entry[entry] = self._load(problem, config, variant, target)

    def _build(self, variants: Sequence[Variant], target: Target) -> None:
        with CompilePool(cache=self._cache) as pool:
            for result in pool.build(variants, target):
                if isinstance(result, BuildError):
                    first = result.log.strip().partition("\n")[0]
                    raise UserError(
                        f"kernel {result.entry} does not build for {self._arch}: {first}; "
                        "python -m tuning_db doctor tells whether the tuning DB is outdated"
                    )

    def _load(
        self, problem: KernelProblem, config: Any, variant: Variant, target: Target
    ) -> LoadedKernel:
        """Load by a launch of next to nothing: the driver may put loading off until a launch."""
        path = self._cache.cubin_path(variant, target.ptx_arch, self._arch)
        loaded = LoadedKernel(Kernel(variant.entry, path, variant.threads, variant.smem_bytes))
        count, operands = idle_operands(problem, self._device)
        pointers = tuple(0 if tensor is None else tensor.data_ptr() for tensor in operands)
        shape = launch_shape(problem, config, count)
        stream = torch.cuda.current_stream().cuda_stream
        Launch(shape, loaded, self._counters, self._device)(pointers, stream)
        return loaded
