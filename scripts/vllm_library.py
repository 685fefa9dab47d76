"""vLLM's compiled MoE operators, made small enough to carry to a machine without a network.

The library holds the same kernels for many architectures. Device code for others than one is
emptied, so that the file compresses to a few hundredths: a fat binary (CUDA binary utilities,
"fatbin") is a header of 16 bytes and entries, each with a header that names kind and architecture.
An emptied entry is told to be machine code of sm_75, which a newer GPU passes over.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator

from search_spaces import UserError

_MAGIC = struct.pack("<I", 0xBA55ED50)
_MACHINE_CODE, _OTHER_ARCH = 2, 75


def shrink(library: bytes, arch: int) -> bytes:
    """xz of the library with device code for ``arch`` (90) alone. Raises UserError for none."""
    kept, small = 0, bytearray(library)
    for start, body, end in _entries(library):
        kind, entry_arch = _kind_and_arch(library, start)
        if (kind, entry_arch) == (_MACHINE_CODE, arch):
            kept += 1
            continue
        struct.pack_into("<H", small, start, _MACHINE_CODE)
        struct.pack_into("<I", small, start + 28, _OTHER_ARCH)
        small[body:end] = bytes(end - body)
    if not kept:
        raise UserError(f"the library holds no machine code for sm_{arch}")
    return lzma.compress(bytes(small), preset=6)


def architectures(library: bytes) -> list[tuple[int, int]]:
    """(kind, architecture) of every entry: kind 1 is PTX, 2 machine code."""
    return [_kind_and_arch(library, start) for start, _, _ in _entries(library)]


def _kind_and_arch(library: bytes, start: int) -> tuple[int, int]:
    kind, arch = struct.unpack_from("<H26xI", library, start)
    return int(kind), int(arch)


def _entries(library: bytes) -> Iterator[tuple[int, int, int]]:
    """(start of its header, of its body, its end) of every entry of every fat binary."""
    found = library.find(_MAGIC)
    while found >= 0:
        version, header, size = struct.unpack_from("<HHQ", library, found + 4)
        end = found + header + size
        if (version, header) == (1, 16) and end <= len(library):
            start = found + header
            while start < end:
                entry_header, body_size = struct.unpack_from("<IQ", library, start + 4)
                body = start + entry_header
                yield start, body, body + body_size
                start = body + body_size
            found = library.find(_MAGIC, end)
        else:
            found = library.find(_MAGIC, found + 4)
