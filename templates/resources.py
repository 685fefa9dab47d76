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
_SECTION = re.compile(r"(?:Compiling entry function|Function properties for)\s+'?([\w$]+)'?")


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
    """Read what ``ptxas -v`` tells of ``entry``, in a log that may tell more.

    The log must be of a module with this one entry: functions that were not inlined are then its
    own, and what they spill is added to its spills. Fields that ptxas leaves out are 0. Raises
    ValueError when the log does not tell the entry's registers and stack.
    """
    sections: dict[str, str] = {}
    _, *named = _SECTION.split(log)
    for name, text in zip(named[::2], named[1::2], strict=True):
        sections[name] = sections.get(name, "") + text
    own = sections.get(entry, "")
    found = {name: re.search(pattern, own) for name, pattern in _FIELDS.items()}
    if not found["registers"] or not found["stack"]:
        raise ValueError(f"ptxas reported nothing about {entry} for {arch}: {log!r}")
    numbers = {name: int(hit[1]) if hit else 0 for name, hit in found.items()}
    for name in ("spill_stores", "spill_loads"):
        numbers[name] = sum(map(int, re.findall(_FIELDS[name], log)))
    return Resources(arch, **numbers)
