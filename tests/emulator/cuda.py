"""CUDA C++ snippets as PTX: what NVRTC makes of them, without a GPU."""

from __future__ import annotations

from functools import cache

from cupy_backends.cuda.libs import nvrtc

from templates.options import OPTIONS
from templates.toolchain import toolchain


@cache
def ptx_of(source: str, arch: str = "compute_75", options: tuple[str, ...] = ()) -> str:
    """PTX of a translation unit, with the templates' options and these.

    Raises AssertionError with the compiler's log.
    """
    program = nvrtc.createProgram(source, "snippet.cu", [], [])
    includes = [f"-I{folder}" for folder in toolchain().include_path("sm_75")]
    try:
        nvrtc.compileProgram(program, [*OPTIONS, f"-arch={arch}", *options, *includes])
        return str(nvrtc.getPTX(program).decode())
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)
