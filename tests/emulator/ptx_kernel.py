"""A kernel of a few PTX statements, launched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuner.emulator import Emulation, emulate

TEXT = """
.version 8.0
.target {target}
.address_size 64
{variables}
.visible .entry k({params})
{{
    .reg .pred %p<10>;
    .reg .b16 %h<20>;
    .reg .b32 %r<40>;
    .reg .f32 %f<40>;
    .reg .b64 %rd<20>;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, %ctaid.x;
    {load}
    {body}
    ret;
}}
"""


def run(
    body: str,
    args: Sequence[Any] = (),
    *,
    ctas: int = 1,
    threads: int = 32,
    smem: int = 0,
    variables: str = "",
    target: str = "sm_80",
    **options: Any,
) -> Emulation:
    """Argument i, a pointer or a 64-bit number, is in %rd<i>; %r0 is the thread, %r1 the CTA."""
    params = ", ".join(f".param .u64 a{i}" for i in range(len(args)))
    load = " ".join(f"ld.param.u64 %rd{i}, [a{i}];" for i in range(len(args)))
    text = TEXT.format(target=target, variables=variables, params=params, load=load, body=body)
    return emulate(text, (ctas, 1, 1), (threads, 1, 1), smem, args, **options)
