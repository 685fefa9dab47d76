"""The compile worker: a child process that answers batches until its parent goes away.

NVRTC keeps its state per process and a crash in it takes the process along; so every compile runs
in a child, which a dead one's successor replaces. ``python -m templates.worker FD ROOT`` is the
child's own command: unlike multiprocessing's spawn it does not import the caller's main module.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

from search_spaces.errors import UserError
from templates.built import BuildError, Built, Target
from templates.variant import Variant

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
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(cache_root)],
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


def _serve(link: Connection, cache_root: Path) -> None:
    # Imported here, in the child alone: the parent has no use for them.
    from templates.build import build_batch
    from templates.cache import KernelCache

    cache = KernelCache(cache_root)
    while True:
        try:
            variants, target = link.recv()
        except EOFError:
            return
        reply: Reply
        try:
            reply = build_batch(cache, variants, target)
        except UserError as error:
            reply = error
        link.send(reply)


def _end_with_parent(descriptor: int) -> None:
    """Leave at once when the other end closes, in the middle of a compile as well."""
    watch = select.poll()
    watch.register(descriptor, 0)  # a hang-up is reported unasked
    watch.poll()
    os._exit(1)


if __name__ == "__main__":
    _descriptor = int(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(_descriptor,), daemon=True).start()
    _serve(Connection(_descriptor), Path(sys.argv[2]))
