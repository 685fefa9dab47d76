"""Compiler: a batch of variants in one translation unit -> PTX per variant -> cubins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from cupy_backends.cuda.libs import nvrtc

from templates.built import Binary, BuildError, Built, Target
from templates.jitlink import link
from templates.logs import trimmed
from templates.options import OPTIONS
from templates.ptx import split_entries
from templates.toolchain import toolchain
from templates.variant import Variant, translation_unit


def compile_batch(variants: Sequence[Variant], target: Target) -> list[Built | BuildError]:
    """Build variants of one tier together; results in their order.

    When the translation unit fails, every variant is compiled again alone, so that only the
    guilty ones come back as BuildError. Raises UserError for a missing toolchain or an
    architecture it does not know.
    """
    start = time.process_time()
    ptx = _front_end(variants, target)
    if isinstance(ptx, str):
        if len(variants) == 1:
            return [BuildError(variants[0].entry, trimmed(ptx))]
        return [result for variant in variants for result in compile_batch([variant], target)]
    share = (time.process_time() - start) / len(variants)
    drafts = [Built(variant, ptx[variant.entry], {}, share) for variant in variants]
    return [link_missing(draft, target) for draft in drafts]


def link_missing(built: Built, target: Target) -> Built | BuildError:
    """The variant with exactly ``target``'s architectures; the missing ones made from its PTX."""
    start = time.process_time()
    binaries: dict[str, Binary] = {}
    for arch in target.archs:
        binary = built.binaries.get(arch) or link(built.ptx, built.variant.entry, arch)
        if isinstance(binary, BuildError):
            return binary
        binaries[arch] = binary
    seconds = built.seconds + time.process_time() - start
    return replace(built, binaries=binaries, seconds=seconds)


def _front_end(variants: Sequence[Variant], target: Target) -> dict[str, str] | str:
    """Entry -> PTX, or the compiler's log."""
    includes = [f"-I{folder}" for folder in toolchain().include_path(variants[0].tier)]
    name = f"{variants[0].entry}.cu"
    program = nvrtc.createProgram(translation_unit(variants), name, [], [])
    try:
        nvrtc.compileProgram(program, [*OPTIONS, f"-arch={target.ptx_arch}", *includes])
        entries = split_entries(nvrtc.getPTX(program).decode())
    except nvrtc.NVRTCError:
        return str(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)
    absent = [variant.entry for variant in variants if variant.entry not in entries]
    return f'error: no extern "C" __global__ {absent[0]} in its source' if absent else entries
