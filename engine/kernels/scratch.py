"""Scratch: memory that kernels of one stream use between and within their passes."""

from __future__ import annotations

import torch

from search_spaces import UserError


class Scratch:
    """Workspace and counters of a caller who wants no allocation once it has seen its sizes.

    It grows, at least twofold, when a launch needs more than any before. What it had stays as long
    as it lives, for a CUDA graph may have captured it; that is at most as much again. Only for
    launches of one stream, or that wait for each other.
    """

    def __init__(self, device: torch.device) -> None:
        self._workspace = torch.empty(0, dtype=torch.uint8, device=device)
        self._counters = torch.zeros(0, dtype=torch.int32, device=device)
        self._outgrown: list[torch.Tensor] = []
        self._pointers = (0, 0)
        self._sizes = (0, 0)

    def pointers(self, workspace_bytes: int, counters: int) -> tuple[int, int]:
        """Where at least so many bytes, and so many int32 that are zero, begin in memory.

        Raises UserError where it would have to grow while torch's current stream is captured.
        """
        if workspace_bytes > self._sizes[0] or counters > self._sizes[1]:
            self._grow(workspace_bytes, counters)
        return self._pointers

    def _grow(self, workspace_bytes: int, counters: int) -> None:
        if self._counters.is_cuda and torch.cuda.is_current_stream_capturing():
            raise UserError(
                f"scratch memory of {workspace_bytes} bytes and {counters} counters cannot be "
                "allocated while a CUDA graph is captured: run the same sizes once before"
            )
        held_bytes, held_counters = self._sizes
        if workspace_bytes > held_bytes:
            self._outgrown.append(self._workspace)
            self._workspace = self._workspace.new_empty(max(workspace_bytes, 2 * held_bytes))
        if counters > held_counters:
            self._outgrown.append(self._counters)
            self._counters = self._counters.new_zeros(max(counters, 2 * held_counters))
        self._sizes = self._workspace.shape[0], self._counters.shape[0]
        self._pointers = self._workspace.data_ptr(), self._counters.data_ptr()
