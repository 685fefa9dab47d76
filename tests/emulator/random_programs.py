"""Random PTX programs, with branches and loops, and what they do to one thread's registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.emulator.float_oracle import float_operations
from tests.emulator.integer_oracle import Operation, integer_operations

WIDTHS = {"h": 16, "r": 32, "d": 64, "f": 32, "p": 1}
COUNTS = {"h": 3, "r": 6, "d": 4, "f": 4, "p": 3}
NAMES = [(kind, i) for kind, number in COUNTS.items() for i in range(number)]
State = dict[tuple[str, int], int]
OPERATIONS = [*integer_operations(), *float_operations()]
# Numbers at which something ends or begins, in one type or another.
CORNERS = [
    0, 1, 2, 7, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1,
    # f32: 1, the next one, 2^23, 2^31, 1/2, 3/2, subnormals, the largest, infinity, NaN
    0x3F800000, 0x3F800001, 0x4B000000, 0x4F000000, 0x3F000000, 0x3FC00000, 0x00000001, 0x007FFFFF,
    0x00800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0xBF800000, 0xFF800000,
]  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One operation; a source is a register or an immediate. ``guard``: predicate, negated."""

    operation: Operation
    target: int
    sources: tuple[tuple[str, int] | int, ...]
    guard: tuple[int, bool] | None


@dataclass(frozen=True)
class Choice:
    """One of two blocks, as a predicate says for each thread."""

    predicate: int
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True)
class Loop:
    """A block done once to four times, as a register's low bits say for each thread."""

    register: int
    body: tuple[Statement, ...]


Statement = Line | Choice | Loop


@st.composite
def _lines(draw: st.DrawFn) -> Line:
    operation = draw(st.sampled_from(OPERATIONS))
    sources: list[tuple[str, int] | int] = [
        (kind, draw(st.integers(0, COUNTS[kind] - 1))) for kind in operation.kinds[1:]
    ]
    last = operation.kinds[-1]
    if len(sources) > 1 and last != "p" and "mov" not in operation.text and draw(st.booleans()):
        sources[-1] = draw(st.sampled_from(CORNERS)) % (1 << WIDTHS[last])
    guards = st.tuples(st.integers(0, COUNTS["p"] - 1), st.booleans())
    guard = draw(st.none() | guards) if ";" not in operation.text[:-1] else None
    target = draw(st.integers(0, COUNTS[operation.kinds[0]] - 1))
    return Line(operation, target, tuple(sources), guard)


def programs(straight: bool) -> st.SearchStrategy[tuple[Statement, ...]]:
    """A few dozen instructions; unless ``straight``, in branches and loops up to three deep."""
    lines: st.SearchStrategy[Statement] = _lines()
    if straight:
        return st.lists(lines, min_size=20, max_size=50).map(tuple)
    blocks = st.lists(lines, min_size=1, max_size=6).map(tuple)
    for _ in range(3):
        choices = st.builds(Choice, st.integers(0, COUNTS["p"] - 1), blocks, blocks)
        loops = st.builds(Loop, st.integers(0, COUNTS["r"] - 1), blocks)
        blocks = st.lists(lines | choices | loops, min_size=2, max_size=5).map(tuple)
    return blocks


def interpret(program: tuple[Statement, ...], state: State) -> None:
    """Changes one thread's registers as the program does."""
    for statement in program:
        if isinstance(statement, Line):
            _interpret_line(statement, state)
        elif isinstance(statement, Choice):
            taken = state["p", statement.predicate]
            interpret(statement.then if taken else statement.otherwise, state)
        else:
            for _ in range((state["r", statement.register] & 3) + 1):
                interpret(statement.body, state)


def _interpret_line(line: Line, state: State) -> None:
    if line.guard is not None and bool(state["p", line.guard[0]]) == line.guard[1]:
        return
    values = [one if isinstance(one, int) else state[one] for one in line.sources]
    kind = line.operation.kinds[0]
    state[kind, line.target] = line.operation.compute(*values) & (1 << WIDTHS[kind]) - 1


def ptx(program: tuple[Statement, ...], threads: int) -> str:
    """A kernel that loads each thread's registers from %in, [register, thread] of u64, runs the
    program and stores them to %out."""
    labels = count()
    body = list(_write(program, labels))
    loops = "".join(f" .reg .b32 %n{i}, %i{i}; .reg .pred %q{i};" for i in range(next(labels)))
    load = [line for slot, name in enumerate(NAMES) for line in _load(slot, name, threads)]
    store = [line for slot, name in enumerate(NAMES) for line in _store(slot, name, threads)]
    return "\n".join([_HEAD, loops, *load, *body, *store, "ret;\n}\n"])


_HEAD = """.version 8.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out)
{
.reg .b16 %h<3>, %th; .reg .b32 %r<6>, %t<4>, %tr, %me; .reg .b64 %d<4>, %td, %in, %out, %x;
.reg .f32 %f<4>; .reg .pred %p<3>;
ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
mov.u32 %me, %tid.x; mul.wide.u32 %x, %me, 8; add.u64 %in, %in, %x; add.u64 %out, %out, %x;"""


def _load(slot: int, name: tuple[str, int], threads: int) -> Iterator[str]:
    kind, number = name
    register = f"%{kind}{number}"
    yield f"ld.global.u64 %x, [%in+{8 * threads * slot}];"
    yield {
        "h": f"cvt.u16.u64 {register}, %x;",
        "r": f"cvt.u32.u64 {register}, %x;",
        "d": f"mov.b64 {register}, %x;",
        "f": f"cvt.u32.u64 %t0, %x; mov.b32 {register}, %t0;",
        "p": f"setp.ne.u64 {register}, %x, 0;",
    }[kind]


def _store(slot: int, name: tuple[str, int], threads: int) -> Iterator[str]:
    kind, number = name
    register = f"%{kind}{number}"
    yield {
        "h": f"cvt.u64.u16 %x, {register};",
        "r": f"cvt.u64.u32 %x, {register};",
        "d": f"mov.b64 %x, {register};",
        "f": f"mov.b32 %t0, {register}; cvt.u64.u32 %x, %t0;",
        "p": f"selp.u64 %x, 1, 0, {register};",
    }[kind]
    yield f"st.global.u64 [%out+{8 * threads * slot}], %x;"


def _write(program: tuple[Statement, ...], labels: Iterator[int]) -> Iterator[str]:
    for statement in program:
        if isinstance(statement, Line):
            yield _write_line(statement)
            continue
        mark = next(labels)
        if isinstance(statement, Choice):
            yield f"@!%p{statement.predicate} bra $ELSE{mark};"
            yield from _write(statement.then, labels)
            yield f"bra.uni $END{mark};\n$ELSE{mark}:"
            yield from _write(statement.otherwise, labels)
            yield f"$END{mark}:"
        else:
            yield f"and.b32 %n{mark}, %r{statement.register}, 3; mov.u32 %i{mark}, 0;\n$LOOP{mark}:"
            yield from _write(statement.body, labels)
            yield f"setp.lt.u32 %q{mark}, %i{mark}, %n{mark}; add.u32 %i{mark}, %i{mark}, 1;"
            yield f"@%q{mark} bra $LOOP{mark};"


def _write_line(line: Line) -> str:
    kinds = line.operation.kinds
    names = [f"%{kinds[0]}{line.target}"]
    for kind, source in zip(kinds[1:], line.sources, strict=True):
        if not isinstance(source, int):
            names.append(f"%{source[0]}{source[1]}")
        else:
            names.append(f"0f{source:08X}" if kind == "f" else f"{source:#x}")
    guard = ""
    if line.guard is not None:
        guard = f"@{'!' if line.guard[1] else ''}%p{line.guard[0]} "
    return guard + line.operation.text.format(*names)


def states(seed: int, threads: int) -> NDArray[np.uint64]:
    """Registers' first values, [register, thread]: corners, small numbers and random ones."""
    random = np.random.default_rng(seed)
    shape = (len(NAMES), threads)
    wide = random.integers(0, 2**64, shape, np.uint64)
    wide >>= random.integers(0, 64, shape, np.uint64)
    corners = random.choice(np.array(CORNERS, np.uint64), shape)
    values = np.where(random.random(shape) < 0.4, corners, wide)
    limits = np.array([(1 << WIDTHS[kind]) - 1 for kind, _ in NAMES], np.uint64)
    # Random bits are hardly ever a float near one: half of the f32 get an exponent there.
    near = wide & np.uint64(0x80FFFFFF) | np.uint64(0x3F000000)
    floats = np.array([kind == "f" for kind, _ in NAMES])[:, None] & (random.random(shape) < 0.5)
    return np.where(floats, near, values) & limits[:, None]
