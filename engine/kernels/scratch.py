"""Scratch: memory that kernels of one stream use between and within their passes."""

from __future__ import annotations

import torch


class Scratch:
    """Workspace and counters of a caller who wants no allocation once it has seen its sizes.

    It grows when a launch needs more than any before, and never shrinks; what a graph captured
    must be held for as long as the graph (``held``). Only for launches of one stream, or that
    wait for each other.
    """

    def __init__(self, device: torch.device) -> None:
        self._workspace = torch.empty(0, dtype=torch.uint8, device=device)
        self._counters = torch.zeros(0, dtype=torch.int32, device=device)
        self._pointers = (0, 0)
        self._sizes = (0, 0)

    def pointers(self, workspace_bytes: int, counters: int) -> tuple[int, int]:
        """Where at least so many bytes, and so many int32 that are zero, begin in memory."""
        if workspace_bytes > self._sizes[0] or counters > self._sizes[1]:
            self._grow(workspace_bytes, counters)
        return self._pointers

    def held(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The memory itself, as it is now."""
        return self._workspace, self._counters

    def _grow(self, workspace_bytes: int, counters: int) -> None:
        if workspace_bytes > self._sizes[0]:
            self._workspace = self._workspace.new_empty(workspace_bytes)
        if counters > self._sizes[1]:
            self._counters = self._counters.new_zeros(counters)
        self._sizes = self._workspace.shape[0], self._counters.shape[0]
        self._pointers = self._workspace.data_ptr(), self._counters.data_ptr()
