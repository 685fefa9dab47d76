"""Handles: numbers that stand for TunedKernels in a traced graph, which can hold no objects."""

from __future__ import annotations

from threading import Lock

from engine.kernels.tuned import TunedKernels
from search_spaces import UserError

_KERNELS: list[TunedKernels] = []
_LOCK = Lock()


def handle_of(kernels: TunedKernels) -> int:
    """0, 1 ... in the order in which kernels were first asked for.

    They are kept for the life of the process: a graph may outlive the layer it was traced from. A
    graph that is loaded into another process needs kernels under the same number there.
    """
    with _LOCK:
        for handle, known in enumerate(_KERNELS):
            if known is kernels:
                return handle
        _KERNELS.append(kernels)
        return len(_KERNELS) - 1


def kernels_of(handle: int) -> TunedKernels:
    """The kernels of a handle. Raises UserError for a number that nobody was given."""
    if not 0 <= handle < len(_KERNELS):
        raise UserError(
            f"no kernels have handle {handle} in this process, which has {len(_KERNELS)}: make the "
            "TunedKernels and ask engine.ops.handle_of before the graph runs"
        )
    return _KERNELS[handle]
