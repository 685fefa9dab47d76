"""Figure: one count with its ideal; a launch's counters as a list of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tuner.emulator.counts import Totals

# Kinds of access in the order of the report, and what they are called there.
_KINDS = {
    "load": "load",
    "store": "store",
    "matrix": "ldmatrix",
    "copy": "cp.async",
    "atomic": "atomic",
}
_READS = ("load", "copy", "atomic")
_WRITES = ("store", "atomic")


@dataclass(frozen=True)
class Figure:
    """``ideal`` is the least that would do, where that is known."""

    name: str
    value: int
    ideal: int | None = None

    @property
    def key(self) -> str:
        """The name as programs say it: ``read_bytes``."""
        return self.name.replace(" ", "_").replace(".", "_")

    @property
    def ratio(self) -> float | None:
        """How many times the ideal; None when there is none to divide by."""
        return self.value / self.ideal if self.ideal else None


def figures(totals: Totals, ideals: Mapping[str, int] | None = None) -> list[Figure]:
    """Everything of ``totals`` but the opcodes, in the order of the report.

    ``ideals`` gives the ideal of figures by key, of those that follow from the problem: ``mma``,
    ``flops``, ``read_bytes``, ``written_bytes``. Raises ValueError for a key without a figure.
    """
    given = dict(ideals or {})
    found = []
    for figure in _all(totals):
        ideal = given.pop(figure.key, figure.ideal)
        found.append(Figure(figure.name, figure.value, ideal))
    if given:
        raise ValueError(f"ideals of no figure: {', '.join(given)}")
    return found


def _all(totals: Totals) -> Iterator[Figure]:
    yield Figure("warp instructions", totals.instructions)
    for name, count in totals.by_class.items():
        yield Figure(f"{name} instructions", count)
    yield Figure("thread instructions", totals.threads)
    yield Figure("predicated off", totals.threads - totals.threads_on)
    yield Figure("mma", totals.mma)
    yield Figure("flops", totals.flops)
    yield Figure("barriers", totals.barriers)
    yield Figure("divergent branches", totals.divergent, 0)
    yield from _shared(totals)
    yield from _globals(totals)


def _shared(totals: Totals) -> Iterator[Figure]:
    for kind in (kind for kind in _KINDS if kind in totals.shared):
        counts, name = totals.shared[kind], f"shared {_KINDS[kind]}"
        yield Figure(f"{name} requests", counts.requests)
        yield Figure(f"{name} wavefronts", counts.wavefronts, counts.ideal)
        yield Figure(f"{name} conflicts", counts.conflicts, 0)
        yield Figure(f"{name} bytes", counts.bytes)


def _globals(totals: Totals) -> Iterator[Figure]:
    for kind in (kind for kind in _KINDS if kind in totals.globals):
        counts, name = totals.globals[kind], f"global {_KINDS[kind]}"
        yield Figure(f"{name} requests", counts.requests)
        yield Figure(f"{name} sectors", counts.sectors, counts.ideal)
        yield Figure(f"{name} bytes", counts.bytes)
    for name, kinds in (("read bytes", _READS), ("written bytes", _WRITES)):
        moved = [totals.globals[kind].sector_bytes for kind in kinds if kind in totals.globals]
        yield Figure(name, sum(moved))
