"""Arguments: what a kernel is called with, as parameter bytes and buffers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.errors import UserError
from tuner.emulator.memory import Memory
from tuner.emulator.ptx import Entry, Param

_FLOATS = {"f16": "<e", "f32": "<f", "f64": "<d"}


@dataclass(frozen=True)
class Unwritten:
    """An array or tensor for results: what lies in it must not be read before it is written."""

    array: Any


@dataclass(frozen=True)
class Buffer:
    """An array among the arguments; ``bytes`` is a view of the caller's memory."""

    name: str
    bytes: NDArray[np.uint8]
    written: bool

    @property
    def place(self) -> tuple[int, int]:
        """Where it lies in the host's memory, and how many bytes."""
        return self.bytes.__array_interface__["data"][0], self.bytes.size

    def fill(self, content: NDArray[np.uint8]) -> None:
        """Puts the kernel's results there. Raises UserError if they changed a read-only array."""
        if self.bytes.flags.writeable:
            self.bytes[:] = content
        elif not np.array_equal(self.bytes, content):
            raise UserError(f"the kernel wrote to {self.name}, whose array is read-only")


class Arguments:
    """Checks ``args`` against the kernel's parameters. Raises UserError where they do not fit."""

    def __init__(self, entry: Entry, args: Sequence[Any]) -> None:
        if len(args) != len(entry.params):
            raise UserError(f"{entry.name} takes {len(entry.params)} arguments, not {len(args)}")
        self._entry = entry
        self._values = [
            _value(param, number, arg)
            for number, (param, arg) in enumerate(zip(entry.params, args, strict=True))
        ]
        self._check_overlap()

    @property
    def buffers(self) -> dict[int, Buffer]:
        """The arrays among the arguments, by their number."""
        return {i: value for i, value in enumerate(self._values) if isinstance(value, Buffer)}

    def place(self, memory: Memory) -> bytes:
        """Copies the arrays to the emulated GPU; the parameter bytes with their addresses."""
        image = bytearray()
        addresses: dict[tuple[int, int], int] = {}
        for param, value in zip(self._entry.params, self._values, strict=True):
            image += bytes(-len(image) % param.align)
            if isinstance(value, Buffer):
                if value.place not in addresses:  # the same array twice is one buffer
                    addresses[value.place] = memory.add_buffer(
                        value.name, value.bytes, written=value.written
                    )
                image += struct.pack("<Q", addresses[value.place])
            else:
                image += value
        return bytes(image)

    def write_back(self, memory: Memory) -> None:
        """Copies what the kernel wrote into the caller's arrays.

        Raises UserError for an array that may not be written.
        """
        first: dict[tuple[int, int], Buffer] = {}
        for buffer in self.buffers.values():
            first.setdefault(buffer.place, buffer)
        for buffer in first.values():
            buffer.fill(memory.content(buffer.name))

    def _check_overlap(self) -> None:
        """Each array is copied: what is written to one would not be seen in another."""
        filled = (b for b in self.buffers.values() if b.bytes.size)
        placed = sorted(filled, key=lambda b: b.place)
        for first, second in pairwise(placed):
            start, size = first.place
            if first.place != second.place and second.place[0] < start + size:
                raise UserError(
                    f"the arrays of {first.name} and {second.name} overlap: give one array twice, "
                    "or copies"
                )


def _value(param: Param, number: int, arg: Any) -> bytes | Buffer:
    what = f"argument {number} ({type(arg).__name__}) of a .{param.type} parameter"
    if isinstance(arg, Unwritten):
        return _buffer(param, number, arg.array, what, written=False)
    if isinstance(arg, np.ndarray | torch.Tensor):
        return _buffer(param, number, arg, what, written=True)
    if isinstance(arg, bytes):
        if len(arg) != param.size:
            raise UserError(f"{what}: {len(arg)} bytes given, it has {param.size}")
        return arg
    if param.count is not None:
        raise UserError(f"{what}: a struct of {param.size} bytes is given as bytes")
    if arg is None:
        arg = 0
    if isinstance(arg, np.generic) and arg.nbytes != param.size:
        raise UserError(f"{what}: {arg.nbytes} bytes given, it has {param.size}")
    if param.type in _FLOATS:
        return struct.pack(_FLOATS[param.type], float(arg))
    if isinstance(arg, np.floating):
        return arg.tobytes()
    if not isinstance(arg, int | np.integer):
        raise UserError(f"{what}: give an array, a number, bytes for a struct or None")
    return _integer(int(arg), param, what)


def _integer(value: int, param: Param, what: str) -> bytes:
    bits = 8 * param.size
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise UserError(f"{what}: {value} does not fit {bits} bits")
    return (value % (1 << bits)).to_bytes(param.size, "little")


def _buffer(param: Param, number: int, array: Any, what: str, *, written: bool) -> Buffer:
    if param.size != 8 or param.count is not None:
        raise UserError(f"{what}: only a 64-bit parameter can be a pointer")
    if isinstance(array, torch.Tensor):
        if array.device.type != "cpu":
            raise UserError(f"{what}: the tensor is on {array.device}: give a CPU tensor")
        if not array.is_contiguous():
            raise UserError(f"{what}: the tensor is not contiguous: call .contiguous() first")
        content = array.detach().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(array, np.ndarray) and array.flags.c_contiguous:
        content = array.reshape(-1).view(np.uint8)
    else:
        raise UserError(f"{what}: give a contiguous NumPy array or torch tensor")
    return Buffer(param.name, content, written)
