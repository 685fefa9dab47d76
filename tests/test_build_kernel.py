"""Kernel and device: loading and launching on a GPU, and what is said where there is none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.errors import UserError
from templates.build import build_batch
from templates.built import Built, Target
from templates.cache import KernelCache
from templates.device import device_count, device_spec, device_uuid
from templates.kernel import Kernel, packed
from templates.variant import Variant
from tests.build_variants import scale, variant
from tests.conftest import cuda_device_count

REVERSE = """extern "C" __global__ void __launch_bounds__(128) ENTRY(const int* a, int* out,
                                                        int n) {
  extern __shared__ int reversed[];
  for (int i = threadIdx.x; i < n; i += 128) reversed[n - 1 - i] = a[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += 128) out[i] = reversed[i];
}"""


def loaded(root: Path, chosen: Variant, smem_bytes: int = 0) -> Kernel:
    """Built for this machine's own GPU, from the tier's PTX."""
    cache, arch = KernelCache(root), device_spec().arch
    (built,) = build_batch(cache, [chosen], Target.for_tier("sm_75", arch))
    assert isinstance(built, Built), built
    path = cache.cubin_path(chosen, "compute_75", arch)
    return Kernel(chosen.entry, path, chosen.threads, smem_bytes)


@pytest.mark.gpu
def test_launch_runs_on_the_stream_given(tmp_path: Path) -> None:
    import cupy

    kernel = loaded(tmp_path, scale("lm_a", factor=7))
    stream = cupy.cuda.Stream(non_blocking=True)
    for n in (1, 1000):
        a = cupy.arange(1000, dtype=cupy.int32)
        out = cupy.full(1000, -1, dtype=cupy.int32)
        cupy.cuda.Device().synchronize()
        kernel.launch((8, 1, 1), (a.data.ptr, out.data.ptr, np.int32(n)), stream.ptr)
        stream.synchronize()
        expected = np.where(np.arange(1000) < n, 7 * np.arange(1000), -1)
        np.testing.assert_array_equal(out.get(), expected)


def test_packed_scalars_are_what_c_lays_out() -> None:
    scalars = [np.int32(-2), np.float32(1.5), np.int32(7)]
    assert packed(scalars) == struct.pack("@ifi", -2, 1.5, 7)


@pytest.mark.gpu
def test_launch_is_recorded_by_a_capturing_stream(tmp_path: Path) -> None:
    import cupy

    kernel = loaded(tmp_path, scale("lm_a", factor=3))
    a, out = cupy.ones(128, dtype=cupy.int32), cupy.zeros(128, dtype=cupy.int32)
    arguments = (a.data.ptr, out.data.ptr, packed([np.int32(128)]))
    stream = cupy.cuda.Stream(non_blocking=True)
    kernel.launch((1, 1, 1), arguments, stream.ptr)  # loads the module, which no capture allows
    stream.synchronize()
    stream.begin_capture()
    kernel.launch((1, 1, 1), arguments, stream.ptr)
    graph = stream.end_capture()
    out.fill(0)
    cupy.cuda.Device().synchronize()
    graph.launch(stream)
    stream.synchronize()
    assert (out.get() == 3).all()


@pytest.mark.gpu
def test_more_than_48_kib_of_dynamic_shared_memory(tmp_path: Path) -> None:
    import cupy

    n = 15 * 1024
    kernel = loaded(tmp_path, variant("lm_r", REVERSE), smem_bytes=4 * n)
    a, out = cupy.arange(n, dtype=cupy.int32), cupy.zeros(n, dtype=cupy.int32)
    kernel.launch((1, 1, 1), (a.data.ptr, out.data.ptr, np.int32(n)), 0)
    np.testing.assert_array_equal(out.get(), np.arange(n)[::-1])


@pytest.mark.gpu
def test_a_cubin_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "kernel.cubin"
    path.write_bytes(b"no machine code")
    with pytest.raises(UserError, match="cannot load lm_a"):
        Kernel("lm_a", path, 128, 0).launch((1, 1, 1), (0,), 0)


@pytest.mark.gpu
def test_device_tells_of_itself() -> None:
    import cupy

    spec, properties = device_spec(), cupy.cuda.runtime.getDeviceProperties(0)
    assert device_count() == cuda_device_count()
    assert spec.arch == f"sm_{cupy.cuda.Device(0).compute_capability}"
    assert spec.sms == properties["multiProcessorCount"]
    assert spec.memory_bytes == properties["totalGlobalMem"]
    assert 500 < spec.clock_mhz < 5000
    assert device_uuid().startswith("GPU-") and len(device_uuid()) == 40


@pytest.mark.gpu
def test_a_gpu_number_there_is_not() -> None:
    with pytest.raises(UserError, match=r"there is no GPU 99: this machine has \d+"):
        device_spec(99)


@pytest.mark.skipif(cuda_device_count() > 0, reason="tells of a machine without a GPU")
@pytest.mark.parametrize("ask", [device_count, device_spec, device_uuid])
def test_no_gpu_is_one_line(ask: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match=r"^no usable GPU: .+") as caught:
        ask()
    assert "\n" not in str(caught.value)
