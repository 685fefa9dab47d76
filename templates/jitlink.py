"""nvJitLink: PTX -> machine code for a real architecture, without a driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cuda.bindings import nvjitlink

from search_spaces.errors import UserError
from templates.built import Binary, BuildError
from templates.logs import trimmed
from templates.resources import parse_report


class _LinkError(Exception):
    """The linker's complaint."""


def link(ptx: str, entry: str, arch: str) -> Binary | BuildError:
    """Assemble the PTX of one entry for ``arch`` ("sm_75"); the assembler's complaint on failure.

    Raises UserError for an architecture that this nvJitLink does not know.
    nvJitLink contains the same assembler as NVRTC (ptxas) and gives a kernel the same registers;
    only around calls of functions that are not inlined, which it keeps linkable, a few more.
    """
    said: list[str] = []
    try:
        with _stderr_into(said):
            cubin, report = _run(ptx.encode(), entry, arch)
    except _LinkError as error:
        log = "\n".join([str(error), *said])
        return BuildError(entry, f"nvJitLink for {arch}: {trimmed(log)}")
    return Binary(entry, arch, cubin, parse_report(report, entry, arch))


def _run(ptx: bytes, entry: str, arch: str) -> tuple[bytes, str]:
    """Machine code and ptxas' report."""
    # "-verbose" would print the linker's own report to stdout; ptxas' goes into the log.
    options = [f"-arch={arch}", "-Xptxas=-v"]
    try:
        handle = nvjitlink.create(len(options), options)
    except nvjitlink.nvJitLinkError as error:
        raise UserError(f"nvJitLink cannot build for architecture '{arch}': {error}") from error
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, ptx, len(ptx), f"{entry}.ptx")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        report = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, report)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        raise _LinkError(_text(log)) from error
    finally:
        nvjitlink.destroy(handle)
    return bytes(cubin), _text(report)


@contextmanager
def _stderr_into(lines: list[str]) -> Iterator[None]:
    """Catch what the library writes to file descriptor 2.

    Too much static shared memory, for one, is told there and not in the log.
    """
    kept = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "w+b") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode(errors="replace").replace("@E@", "").splitlines()


def _text(log: bytearray) -> str:
    return log.rstrip(b"\0").decode(errors="replace")
