"""Resources: registers, shared memory and spills of a kernel, from the assembler's own report."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELDS = {
    "registers": r"Used (\d+) registers",
    "smem_static": r"(\d+) bytes smem",
    "spill_stores": r"(\d+) bytes spill stores",
    "spill_loads": r"(\d+) bytes spill loads",
    "stack": r"(\d+) bytes stack frame",
}
_SECTION = "Function properties for "


@dataclass(frozen=True)
class Resources:
    """What a kernel takes on ``arch`` ("sm_75").

    ``registers`` per thread, ``smem_static`` in bytes per CTA; ``spill_stores``, ``spill_loads``
    and ``stack`` in bytes per thread.
    """

    arch: str
    registers: int
    smem_static: int
    spill_stores: int
    spill_loads: int
    stack: int


def parse_report(log: str, entry: str, arch: str) -> Resources:
    """Read what ``ptxas -v`` tells of ``entry``; a kernel without static smem lacks that field.

    Raises ValueError when the log has no report of that entry.
    """
    sections = {name.strip(): text for name, _, text in map(_title, log.split(_SECTION)[1:])}
    report = sections.get(entry, "")
    found = {name: re.search(pattern, report) for name, pattern in _FIELDS.items()}
    if not found["registers"] or not found["stack"]:
        raise ValueError(f"ptxas reported nothing about {entry} for {arch}: {log!r}")
    return Resources(arch, **{name: int(hit[1]) if hit else 0 for name, hit in found.items()})


def _title(section: str) -> tuple[str, str, str]:
    return section.partition("\n")
