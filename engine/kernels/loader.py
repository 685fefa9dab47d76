"""Loader: configs to kernels on one GPU, each built and loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import torch

from search_spaces import GpuSpec, GroupedGemmConfig, Problem, UserError
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

# N, K, epilogue, gather and the config: what fixes the machine code
CodeKey = tuple[int, int, str, bool, GroupedGemmConfig]


@dataclass(frozen=True)
class LoadedKernel:
    """A kernel whose machine code is on the GPU. One thread at a time may launch it: ``lock``."""

    kernel: Kernel
    lock: Lock = field(default_factory=Lock)


class KernelLoader:
    """Kernels of one GPU, which must be the current device of whoever calls ``load``.

    Not safe to share between threads; the kernels it returns are.
    """

    def __init__(self, gpu: GpuSpec) -> None:
        self._arch = gpu.arch
        self._cache = KernelCache()
        self._loaded: dict[CodeKey, LoadedKernel] = {}

    def load(self, problem: Problem, configs: Sequence[GroupedGemmConfig]) -> list[LoadedKernel]:
        """Kernels in the order of ``configs``; what is not in the kernel cache is compiled.

        Raises UserError when the toolchain is incomplete, when a kernel does not build, and while
        torch's current stream is captured: loading is not allowed then.
        """
        shape = (problem.n, problem.k, problem.epilogue, problem.gather)
        keys = [(*shape, config.compile_key) for config in configs]
        missing = [key for key in dict.fromkeys(keys) if key not in self._loaded]
        if missing:
            if torch.cuda.is_current_stream_capturing():
                raise UserError(
                    f"the kernel for {problem.key} is not loaded yet and cannot be while a CUDA "
                    "graph is captured: call warm_up or grouped_gemm once before"
                )
            variants = [render(problem, key[-1]) for key in missing]
            target = Target.for_tier(variants[0].tier, self._arch)
            self._build(variants, target)
            for key, variant in zip(missing, variants, strict=True):
                self._loaded[key] = self._load(problem, key[-1], variant, target)
        return [self._loaded[key] for key in keys]

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
        self, problem: Problem, config: GroupedGemmConfig, variant: Variant, target: Target
    ) -> LoadedKernel:
        """Load by a launch that finds no rows: the driver may put loading off until a launch."""
        path = self._cache.cubin_path(variant, target.ptx_arch, self._arch)
        kernel = Kernel(variant.entry, path, variant.threads, variant.smem_bytes)
        offsets = torch.zeros(problem.experts + 1, dtype=torch.int32, device="cuda")
        stream = torch.cuda.current_stream().cuda_stream
        first = launch_shape(problem, config, 1).passes[0]
        kernel.launch((1, 1, 1), (0, 0, 0, offsets.data_ptr(), 0, 0, 0, *first.scalars), stream)
        return LoadedKernel(kernel)
