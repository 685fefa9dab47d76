"""Hand-written PTX around a few statements, and what the real assembler says to it."""

from __future__ import annotations

from templates.built import Binary
from templates.jitlink import link
from tests.build_variants import TARGET
from tuner.emulator.ptx import Entry, Instruction, read_module

HEADER = ".version 8.0\n.target sm_75\n.address_size 64\n"
# Lines of HEADER and of what kernel_text puts before the statements, when it gets no module part.
FIRST_LINE = 10


def kernel_text(body: str, before: str = "") -> str:
    """A module with one kernel ``k``; its statements begin on line FIRST_LINE."""
    return f"""{HEADER}{before}.visible .entry k(.param .u64 out)
{{
.reg .pred %p<4>;
.reg .b32 %r<9>;
.reg .b64 %rd<4>;
.reg .f32 %f<4>;
{body}
ret;
}}
"""


def read_kernel(body: str, before: str = "") -> Entry:
    return read_module(kernel_text(body, before)).entries["k"]


def read_one(statement: str, before: str = "") -> Instruction:
    """The first instruction of a body."""
    return read_kernel(statement, before).instructions[0]


def assembles(text: str) -> bool:
    """Whether ptxas, inside nvJitLink, takes a module with a kernel ``k``."""
    [arch] = TARGET.archs
    return isinstance(link(text, "k", arch), Binary)
