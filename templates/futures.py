"""One future for many."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


def gather(parts: Sequence[Future[T]]) -> Future[list[T]]:
    """All results in order, done with the last part; fails with the first part that failed.

    It cannot be cancelled itself; a cancelled part makes it raise CancelledError.
    """
    whole: Future[list[T]] = Future()
    whole.set_running_or_notify_cancel()
    lock = Lock()
    left = len(parts)

    def count(_: Future[T]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            _settle(whole, parts)

    for part in parts:
        part.add_done_callback(count)
    if not parts:
        whole.set_result([])
    return whole


def _settle(whole: Future[list[T]], parts: Sequence[Future[T]]) -> None:
    for part in parts:
        failure = CancelledError() if part.cancelled() else part.exception()
        if failure is not None:
            whole.set_exception(failure)
            return
    whole.set_result([part.result() for part in parts])
