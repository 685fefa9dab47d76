"""Kernel: one entry of a cubin on the current GPU, with a launch that costs the host little."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex, TypeAlias

import numpy as np

from search_spaces.errors import UserError
from templates.launch_shape import Scalar

# A CTA may use more dynamic shared memory than this only after asking for it (CUDA C++
# Programming Guide, "Shared Memory").
_SMEM_UNASKED = 48 * 1024
# cuLaunchKernel's `extra` list: tags CU_LAUNCH_PARAM_{BUFFER_POINTER,BUFFER_SIZE,END}.
_BUFFER_POINTER, _BUFFER_SIZE, _END = 1, 2, 0

Argument: TypeAlias = "SupportsIndex | np.float32 | bytes"
_FORMATS: dict[type, str] = {np.int32: "i", np.float32: "f"}


class Kernel:
    """Loads its machine code at the first launch, onto the device that is current then.

    ``threads`` is the CTA's size, ``smem_bytes`` its dynamic shared memory. A Kernel belongs to
    one device and to one thread at a time: its argument buffer is used again by every launch.
    """

    def __init__(self, entry: str, cubin_path: Path, threads: int, smem_bytes: int) -> None:
        self.entry = entry
        self.cubin_path = cubin_path
        self.threads = threads
        self.smem_bytes = smem_bytes
        self._function: int | None = None

    def launch(
        self,
        grid: tuple[int, int, int],
        args: Sequence[Argument],
        stream: int,
        smem_bytes: int | None = None,
    ) -> None:
        """Start the kernel on ``stream``, a raw CUDA stream handle (0: the default stream).

        ``args`` follow the kernel's parameter list: a Python int is an 8-byte pointer, a
        ``numpy.int32`` an int, a ``numpy.float32`` a float, and bytes are what the last of them
        look like in memory (:func:`packed`). Their types are read at the first launch and hold for
        all later ones. ``smem_bytes`` is this launch's dynamic shared memory where it needs less
        than the kernel may have. The launch is asynchronous. Raises UserError when the cubin cannot
        be loaded here, and CuPy's CUDADriverError when the driver refuses the launch.
        """
        if self._function is None:
            self._bind(args)
            self._load()
        self._parameters.pack_into(self._buffer, 0, *args)
        self._launch_kernel(
            self._function, *grid, self.threads, 1, 1,
            self.smem_bytes if smem_bytes is None else smem_bytes, stream, 0, self._extra,
        )  # fmt: skip

    def _load(self) -> None:
        import cupy
        from cupy_backends.cuda.api import driver

        try:
            self._module = cupy.RawModule(path=str(self.cubin_path))
            kernel = self._module.get_function(self.entry)
            if self.smem_bytes > _SMEM_UNASKED:
                kernel.max_dynamic_shared_size_bytes = self.smem_bytes
        except (OSError, driver.CUDADriverError) as error:
            raise UserError(f"cannot load {self.entry} from {self.cubin_path}: {error}") from error
        self._function = kernel.kernel.ptr
        self._launch_kernel = driver.launchKernel

    def _bind(self, args: Sequence[Argument]) -> None:
        """Lay out the argument buffer once: struct's native alignment is the device's as well."""
        self._parameters = struct.Struct("@" + "".join(_format(arg) for arg in args))
        self._buffer = ctypes.create_string_buffer(self._parameters.size)
        self._size = ctypes.c_size_t(self._parameters.size)
        self._extra_list = (ctypes.c_void_p * 5)(
            _BUFFER_POINTER, ctypes.addressof(self._buffer),
            _BUFFER_SIZE, ctypes.addressof(self._size),
            _END,
        )  # fmt: skip
        self._extra = ctypes.addressof(self._extra_list)


def packed(scalars: Sequence[Scalar]) -> bytes:
    """The last arguments of a launch, made once: numpy's numbers cost 60 ns each to pack."""
    return b"".join(scalar.tobytes() for scalar in scalars)


def _format(argument: Argument) -> str:
    if isinstance(argument, bytes):
        return f"{len(argument)}s"
    return _FORMATS.get(type(argument), "Q")
