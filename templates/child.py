"""A child process at the other end of a pipe, which dies with its parent."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO

ORPHANED = 3  # exit status of a child whose parent is gone: Python's own for an exception is 1
_CLOSED = select.POLLHUP | select.POLLERR | select.POLLNVAL


def start_child(
    module: str, arguments: Sequence[str], *, stdout: int | None = None, stderr: IO[bytes] | None
) -> tuple[Connection, subprocess.Popen[bytes]]:
    """``python -m module FD arguments...``, FD being its end of a pipe; the other end is returned.

    ``module`` is a main module of its own: unlike multiprocessing's spawn, this does not import
    the caller's. ``stdout`` and ``stderr`` as for Popen, None for this process's own.
    """
    link, theirs = Pipe()
    # A session of its own keeps the terminal's Ctrl-C from the child: the parent ends it.
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return link, process


def parent_link(descriptor: int) -> Connection:
    """The child's end. From here on the process ends as soon as the parent closes its own."""
    end_with_parent(descriptor)
    return Connection(descriptor)


def end_with_parent(descriptor: int) -> None:
    """From here on the process ends as soon as the other end of this pipe is closed."""
    threading.Thread(target=_wait_for_end, args=(descriptor,), daemon=True).start()


def _wait_for_end(descriptor: int) -> None:
    """Leave at once, in the middle of a compile or of a hanging kernel as well."""
    watch = select.poll()
    watch.register(descriptor, 0)  # a hang-up is reported unasked
    while not any(event & _CLOSED for _, event in watch.poll()):
        pass
    os._exit(ORPHANED)
