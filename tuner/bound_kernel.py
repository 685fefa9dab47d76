"""BoundKernel: a kernel with its operands and scratch memory, ready to be launched again."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from templates.grouped_gemm import launch_shape
from templates.kernel import Kernel
from templates.launch_shape import LaunchShape
from tuner.inputs import Inputs
from tuner.job import Job


class BoundKernel:
    """Call it to queue its launches on torch's current stream.

    The first call loads the machine code, and raises UserError when the GPU refuses it.
    """

    def __init__(
        self,
        job: Job,
        shape: LaunchShape,
        operands: Sequence[torch.Tensor | None],
        workspace: torch.Tensor,
    ) -> None:
        self._kernel = Kernel(job.entry, job.cubin, job.threads, job.smem_bytes)
        self._passes = shape.passes
        self._counters = torch.zeros(shape.counters, dtype=torch.int32, device=workspace.device)
        # Held, so that the memory behind the pointers stays.
        self._tensors = (*operands, workspace, self._counters)
        pointers = [0 if tensor is None else tensor.data_ptr() for tensor in self._tensors]
        self._pointers = tuple(pointers)

    def __call__(self) -> None:
        stream = torch.cuda.current_stream().cuda_stream
        for each in self._passes:
            arguments = (*self._pointers, *each.scalars)
            self._kernel.launch(each.grid, arguments, stream, each.smem_bytes)

    def counters_are_zero(self) -> bool:
        """Kernels leave their counters as they found them, or the next launch goes wrong."""
        return not bool(self._counters.any())


def bind(jobs: Sequence[Job], inputs: Inputs) -> list[BoundKernel]:
    """Grouped GEMMs on ``inputs``. Raises torch.OutOfMemoryError when a workspace does not fit."""
    shapes = [launch_shape(inputs.problem, job.config, inputs.rows) for job in jobs]
    return bind_all(jobs, shapes, inputs.operands, inputs.a.device)


def bind_all(
    jobs: Sequence[Job],
    shapes: Sequence[LaunchShape],
    operands: Sequence[torch.Tensor | None],
    device: torch.device,
) -> list[BoundKernel]:
    """Kernels of any op that run one after another, and so share operands and workspace.

    ``operands`` are the op's pointers in the order of its parameters, None for null; a shape for
    each job. Raises torch.OutOfMemoryError when the workspace does not fit.
    """
    size = max(shape.workspace_bytes for shape in shapes)
    workspace = torch.empty(size, dtype=torch.uint8, device=device)
    return [
        BoundKernel(job, shape, operands, workspace)
        for job, shape in zip(jobs, shapes, strict=True)
    ]
