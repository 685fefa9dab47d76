"""nvJitLink: PTX -> machine code for a real architecture, without a driver."""

from __future__ import annotations

from cuda.bindings import nvjitlink

from search_spaces.errors import UserError
from templates.built import Binary, BuildError
from templates.logs import trimmed
from templates.resources import parse_report


def link(ptx: str, entry: str, arch: str) -> Binary | BuildError:
    """Assemble the PTX of one entry for ``arch`` ("sm_75"); the assembler's complaint on failure.

    Raises UserError for an architecture that this nvJitLink does not know.

    nvJitLink and NVRTC contain the same assembler (ptxas): equal PTX gives equal registers.
    """
    # "-verbose" would print the linker's own report to stdout; ptxas' goes into the log.
    options = [f"-arch={arch}", "-Xptxas=-v"]
    try:
        handle = nvjitlink.create(len(options), options)
    except nvjitlink.nvJitLinkError as error:
        raise UserError(f"nvJitLink cannot build for architecture '{arch}': {error}") from error
    try:
        data = ptx.encode()
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), f"{entry}.ptx")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        report = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, report)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        return BuildError(entry, f"nvJitLink for {arch}: {trimmed(_text(log) or str(error))}")
    finally:
        nvjitlink.destroy(handle)
    return Binary(entry, arch, bytes(cubin), parse_report(_text(report), entry, arch))


def _text(log: bytearray) -> str:
    return log.rstrip(b"\0").decode(errors="replace")
