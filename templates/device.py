"""The GPUs of this machine: how many, which, and what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from search_spaces.errors import UserError
from search_spaces.gpu import GPUS, GpuSpec, canonical_name, reference_gpu


@contextmanager
def _runtime() -> Iterator[Any]:
    """CuPy's CUDA runtime; every failure of it becomes one line for the user."""
    from cupy.cuda import runtime

    try:
        yield runtime
    except runtime.CUDARuntimeError as error:
        raise UserError(f"no usable GPU: {error}") from error


def device_count() -> int:
    """GPUs this process can see, at least 1. Raises UserError without a driver or a GPU."""
    with _runtime() as runtime:
        return int(runtime.getDeviceCount())


def device_uuid(index: int = 0) -> str:
    """The GPU's identity in the driver's spelling, "GPU-xxxxxxxx-xxxx-...". Raises UserError."""
    import pynvml

    # Not from CuPy's device properties: those cut the 16 bytes at the first zero among them.
    with _properties(index), _runtime() as runtime:
        bus = runtime.deviceGetPCIBusId(index)
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByPciBusId(bus)))
    except pynvml.NVMLError as error:
        raise UserError(f"NVML does not know GPU {index} ({bus}): {error}") from error


def device_spec(index: int = 0) -> GpuSpec:
    """The GPU's spec, with what the device tells of itself instead of the table's figures.

    A GPU that the table does not have takes its per-SM rates from its architecture's reference
    card. Raises UserError without a GPU, or when the architecture has no reference card either.
    """
    with _properties(index) as (properties, attribute):
        name = canonical_name(properties["name"].decode())
        table = {gpu.name: gpu for gpu in GPUS}
        spec = table.get(name) or _unlisted(name, properties, attribute)
        return replace(
            spec,
            sms=properties["multiProcessorCount"],
            clock_mhz=attribute("ClockRate") // 1000,
            memory_bytes=properties["totalGlobalMem"],
        )


def _unlisted(name: str, properties: dict[str, Any], attribute: Any) -> GpuSpec:
    arch = f"sm_{properties['major']}{properties['minor']}"
    # Two transfers a clock; kHz x bits to 1e9 bytes/s.
    dram_gbps = 2 * attribute("MemoryClockRate") * attribute("GlobalMemoryBusWidth") / 8 / 1e6
    return replace(
        reference_gpu(arch),
        name=name,
        dram_gbps=dram_gbps,
        l2_bytes=attribute("L2CacheSize"),
        smem_per_sm=attribute("MaxSharedMemoryPerMultiprocessor"),
        smem_per_block=attribute("MaxSharedMemoryPerBlockOptin"),
        regs_per_sm=attribute("MaxRegistersPerMultiprocessor"),
        max_blocks_per_sm=attribute("MaxBlocksPerMultiprocessor"),
    )


@contextmanager
def _properties(index: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """Properties of GPU ``index`` and a function that reads one of its attributes by name."""
    count = device_count()
    if not 0 <= index < count:
        raise UserError(f"there is no GPU {index}: this machine has {count}, numbered from 0")
    with _runtime() as runtime:

        def attribute(name: str) -> int:
            code = getattr(runtime, f"cudaDevAttr{name}")
            return int(runtime.deviceGetAttribute(code, index))

        yield runtime.getDeviceProperties(index), attribute
