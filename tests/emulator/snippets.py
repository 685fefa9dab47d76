"""Snippets: a few PTX statements executed on arrays of inputs, a lane a value."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tuner.emulator.cohort import Cohort
from tuner.emulator.isa import (  # noqa: F401  (they register their semantics)
    approx,
    bits,
    compare,
    convert,
    dot,
    floating,
    half,
    integer,
    logic,
    moves,
    permute,
)
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import semantics
from tuner.emulator.isa.values import DTYPES, PACKED, WARP, Array, raw_dtype
from tuner.emulator.memory import Memory
from tuner.emulator.ptx import PtxError, read_module

TEXT = """
.version 8.7
.target sm_80
.address_size 64
.visible .entry k()
{{
    {declarations}
    {statements}
    ret;
}}
"""
INPUTS, RESULTS = "abcdefgh", "xyzw"


def run(statements: str, results: str, *inputs: Array, mask: Array | None = None) -> list[Array]:
    """Executes statements on inputs %a, %b, ... [n]; returns %x, %y, ... [n] as ``results`` names
    their types ("s32 pred"). Pairs go in and come out as [n, 2]. A NumPy warning is a failure."""
    raw = [_raw(value) for value in inputs]
    count = max(len(value) for value in raw)
    types = results.split()
    registers = {
        **{f"%{n}": _declared(v.dtype) for n, v in zip(INPUTS, raw, strict=False)},
        **{f"%{n}": _declared(raw_dtype(t)) for n, t in zip(RESULTS, types, strict=False)},
    }
    cohort = _cohort(count, [raw_dtype(name) for name in registers.values()])
    for slot, value in enumerate(raw):
        cohort.registers[slot] = np.resize(value, cohort.lanes)
    if mask is not None:
        padded = np.zeros(cohort.lanes, np.bool_)
        padded[:count] = mask
        cohort.execute(padded, padded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _execute(statements, registers, cohort)
    found = cohort.registers[len(raw) :]
    return [_typed(v[:count], t) for v, t in zip(found, types, strict=True)]


def run_one(statements: str, result: str, *inputs: Array, mask: Array | None = None) -> Array:
    """As :func:`run`, for one result."""
    [value] = run(statements, result, *inputs, mask=mask)
    return value


def refuses(statement: str, *types: str) -> None:
    """Fails unless the statement, on %a, %b, ... and %x of ``types``, is a PtxError."""
    registers = {f"%{n}": t for n, t in zip((*RESULTS[:1], *INPUTS), types, strict=False)}
    cohort = _cohort(WARP, [raw_dtype(name) for name in registers.values()])
    with pytest.raises(PtxError):
        _execute(statement, registers, cohort)


def _execute(statements: str, registers: dict[str, str], cohort: Cohort) -> None:
    declarations = " ".join(f".reg .{kind} {name};" for name, kind in registers.items())
    text = TEXT.format(declarations=declarations, statements=statements)
    bind = Binder({name: slot for slot, name in enumerate(registers)}, {})
    for found in read_module(text).entries["k"].instructions[:-1]:
        bind.current = found
        semantics(found).assemble(found, bind)(cohort)


def _cohort(count: int, dtypes: list[np.dtype[np.generic]]) -> Cohort:
    memory = Memory(shared_bytes=0, local_bytes=0, const=b"", checks=False)
    memory.seal()
    threads = -(-count // WARP) * WARP
    return Cohort([0], (1, 1, 1), (threads, 1, 1), dtypes, memory, None)


def _raw(value: Array) -> Array:
    if value.dtype.kind == "b":
        return value
    value = np.ascontiguousarray(value)
    if value.ndim == 2:
        return value.view(np.uint32)[:, 0]
    return value.view(f"u{value.dtype.itemsize}")


def _declared(dtype: np.dtype[np.generic]) -> str:
    return "pred" if dtype.kind == "b" else f"b{8 * dtype.itemsize}"


def _typed(raw: Array, name: str) -> Array:
    if name in PACKED:
        return np.ascontiguousarray(raw).view(DTYPES[PACKED[name]]).reshape(-1, 2)
    return raw if raw.dtype.kind == "b" else np.ascontiguousarray(raw).view(DTYPES[name])
