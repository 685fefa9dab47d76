"""Kernels with a bug planted into the templates' headers, compiled by NVRTC and emulated."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import GroupedGemmConfig, Numerics, Problem
from search_spaces.problems import AnyProblem
from templates import Built, render
from templates.toolchain import OWN_INCLUDE
from templates.variant import translation_unit
from tests.emulator.cuda import ptx_of
from tuner.emulated import Emulated
from tuner.emulated_gemm import check_config
from tuner.emulator import FaultKind

# Tails in N and K. Two m-tiles for expert 1, the second one begun, and one begun for expert 3,
# whose last row is the last of A and C; experts 0 and 2 are empty.
PROBLEM = Problem("grouped_gemm", 4, 72, 264, 2, numerics=Numerics.FP16)
ROWS = (0, 37, 0, 9)
_FAULT = re.compile(
    r"(?P<kind>[\w ]+) at PTX line (?P<line>\d+), (?P<text>.+?): "
    r"thread \((?P<thread>\d+),0,0\) of CTA \((?P<cta>\d+,\d+),0\) (?P<what>.+)"
)
_OTHER = re.compile(r" at PTX line (\d+)")


@dataclass(frozen=True)
class Edit:
    """``old``, which stands once in the header, becomes ``new``."""

    header: str
    old: str
    new: str


@dataclass(frozen=True)
class Found:
    """A fault, taken out of its message. ``line`` and ``other`` are lines of the PTX: the faulty
    instruction and, for a race, the one it runs against; empty if none is named."""

    kind: FaultKind
    line: str
    other: str
    thread: int
    cta: str
    what: str


def built_with(problem: AnyProblem, config: Any, folder: Path, *edits: Edit) -> Built:
    """The config's PTX with these edits made."""
    include = folder / "include"
    shutil.copytree(OWN_INCLUDE, include)
    for edit in edits:
        path = include / "light_moe" / edit.header
        text = path.read_text()
        assert text.count(edit.old) == 1, f"{edit.header} holds {text.count(edit.old)} {edit.old!r}"
        path.write_text(text.replace(edit.old, edit.new))
    variant = render(problem, config)
    ptx = ptx_of(translation_unit([variant]), options=(f"-I{include}",))
    return Built(variant, ptx, {}, 0.0)


def emulated(config: GroupedGemmConfig, folder: Path, *edits: Edit) -> tuple[Emulated, str]:
    """The config with these edits made: what became of it, and its PTX."""
    built = built_with(PROBLEM, config, folder, *edits)
    return check_config(PROBLEM, config, built, ROWS, seed=1), built.ptx


def fault(config: GroupedGemmConfig, folder: Path, *edits: Edit) -> Found:
    """The fault that these edits lead to. Fails unless there is one that names a line of the PTX
    and quotes it."""
    result, ptx = emulated(config, folder, *edits)
    match = _FAULT.fullmatch(result.reason or "")
    assert match is not None, result.reason
    lines = [" ".join(line.split()) for line in ptx.splitlines()]
    line = lines[int(match["line"]) - 1]
    assert match["text"] in line
    other = _OTHER.search(match["what"])
    return Found(
        FaultKind(match["kind"]),
        line,
        lines[int(other[1]) - 1] if other else "",
        int(match["thread"]),
        match["cta"],
        match["what"],
    )
