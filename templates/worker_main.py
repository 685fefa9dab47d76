"""The compile worker itself: ``python -m templates.worker_main FD ROOT``, started by CompileWorker.

Reads batches from the pipe FD, builds them through the cache at ROOT, and answers in order.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from pathlib import Path

from search_spaces.errors import UserError
from templates.build import build_batch
from templates.cache import KernelCache
from templates.child import parent_link
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


if __name__ == "__main__":
    serve(parent_link(int(sys.argv[1])), KernelCache(Path(sys.argv[2])))
