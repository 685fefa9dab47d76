"""The compile worker itself: ``python -m templates.worker_main FD ROOT``, started by CompileWorker.

Reads batches from the pipe FD, builds them through the cache at ROOT, and answers in order.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from search_spaces.errors import UserError
from templates.build import build_batch
from templates.cache import KernelCache
from templates.worker import Reply


def serve(link: Connection, cache: KernelCache) -> None:
    """Answer until the other end closes."""
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


def end_with_parent(descriptor: int) -> None:
    """Leave at once when the other end closes, in the middle of a compile as well."""
    watch = select.poll()
    watch.register(descriptor, 0)  # a hang-up is reported unasked
    watch.poll()
    os._exit(1)


if __name__ == "__main__":
    _descriptor = int(sys.argv[1])
    threading.Thread(target=end_with_parent, args=(_descriptor,), daemon=True).start()
    serve(Connection(_descriptor), KernelCache(Path(sys.argv[2])))
