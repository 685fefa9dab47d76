"""The parent's end of a compile worker, a child process that answers batches.

NVRTC keeps its state per process and a crash in it takes the process along; so every compile runs
in a child, which a dead one's successor replaces.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from search_spaces.errors import UserError
from templates.built import BuildError, Built, Target
from templates.child import start_child
from templates.variant import Variant

CHILD = "templates.worker_main"
Reply: TypeAlias = "list[Built | BuildError] | UserError"

_ENDING_SECONDS = 5.0  # for an interpreter that closed its pipe to print a traceback and leave


class WorkerDiedError(Exception):
    """The child is gone; the message says how it ended, and its last words."""


class CompileWorker:
    """The parent's end of one child. Use from one thread; ``kill`` from any."""

    def __init__(self, cache_root: Path) -> None:
        # stdout is the linker library's to chatter into; what matters comes through the pipe.
        self._errors = os.fdopen(os.memfd_create("stderr"), "w+b")
        self._link, self._process = start_child(
            CHILD, [str(cache_root)], stdout=subprocess.DEVNULL, stderr=self._errors
        )
        self.pid = self._process.pid

    def build(self, variants: Sequence[Variant], target: Target) -> Reply:
        """Raises WorkerDiedError when the child ends before it answers."""
        try:
            self._link.send((tuple(variants), target))
            reply: Reply = self._link.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(self._ending()) from error
        return reply

    def kill(self) -> None:
        """End the child at once. May be called twice."""
        self._process.kill()
        self._process.wait()

    def _ending(self) -> str:
        try:
            status = self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "the compiler's process hung up and did not end"
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        words = f": {said.splitlines()[-1]}" if said else ""
        if status < 0:
            return f"the compiler's process was ended by {signal.Signals(-status).name}{words}"
        return f"the compiler's process ended with status {status}{words}"
