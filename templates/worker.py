"""The parent's end of a compile worker, a child process that answers batches.

NVRTC keeps its state per process and a crash in it takes the process along; so every compile runs
in a child, which a dead one's successor replaces. The child has a main module of its own: unlike
multiprocessing's spawn it does not import the caller's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import TypeAlias

from search_spaces.errors import UserError
from templates.built import BuildError, Built, Target
from templates.variant import Variant

CHILD = "templates.worker_main"
Reply: TypeAlias = "list[Built | BuildError] | UserError"


class WorkerDiedError(Exception):
    """The child is gone; the message says how it ended."""


class CompileWorker:
    """The parent's end of one child. Use from one thread; ``kill`` from any."""

    def __init__(self, cache_root: Path) -> None:
        self._link, theirs = Pipe()
        # A session of its own keeps the terminal's Ctrl-C from the child: the parent ends it.
        # stdout is the linker library's to chatter into; what matters comes through the pipe.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(theirs.fileno()), str(cache_root)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid

    def build(self, variants: Sequence[Variant], target: Target) -> Reply:
        """Raises WorkerDiedError when the child ends before it answers."""
        try:
            self._link.send((tuple(variants), target))
            reply: Reply = self._link.recv()
        except (EOFError, OSError) as error:
            self.kill()
            raise WorkerDiedError(_ending(self._process.returncode)) from error
        return reply

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _ending(status: int) -> str:
    if status < 0:
        return f"the compiler's process was ended by {signal.Signals(-status).name}"
    return f"the compiler's process ended with status {status}"
