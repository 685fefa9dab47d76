"""Worker: the parent's end of a child process that measures, and can be killed when it hangs.

A kernel that reads a wild address poisons its process for good (the CUDA error is sticky), and one
that never ends blocks it: both cost a child, never the search.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import UserError
from templates.child import start_child
from tuning_db.records import TrialStatus


@dataclass(frozen=True)
class Command:
    """Call ``method`` of the child's measurer."""

    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Reply:
    """What it returned."""

    value: Any


@dataclass(frozen=True)
class Refusal:
    """It raised UserError; the child is as good as before."""

    text: str


@dataclass(frozen=True)
class Fault:
    """It raised RuntimeError, as CUDA's errors are; the child must not be used again."""

    text: str


class WorkerFailure(Exception):  # noqa: N818 (a result more often than a mistake)
    """The child was lost: ``status`` is ``timeout`` or ``launch_error``, the message says how."""

    def __init__(self, status: TrialStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Worker:
    """One child, started by the constructor. Use from one thread; ``kill`` from any.

    ``factory`` is "module:Class" of the measurer, ``arguments`` its constructor's.
    """

    def __init__(self, factory: str, arguments: tuple[Any, ...]) -> None:
        # stderr is ours: what a broken measurer prints is for whoever runs the search.
        self._link, self._process = start_child("tuner.worker_main", [], stderr=None)
        self.pid = self._process.pid
        self._link.send((factory, arguments))

    def call(self, method: str, *arguments: Any, seconds: float) -> Any:
        """What the measurer's method returns.

        Raises UserError when it does, WorkerFailure when it hangs for longer than ``seconds``,
        when CUDA fails or the child is killed, and RuntimeError when the measurer itself is broken
        (its traceback is on stderr). After the last two the worker is dead.
        """
        try:
            self._link.send(Command(method, arguments))
            if not self._link.poll(seconds):
                self.kill()
                raise WorkerFailure(TrialStatus.TIMEOUT, f"{method}: no end within {seconds:g} s")
            answer = self._link.recv()
        except (EOFError, OSError) as error:
            raise self._lost(method) from error
        if isinstance(answer, Reply):
            return answer.value
        if isinstance(answer, Refusal):
            raise UserError(answer.text)
        self.kill()
        raise WorkerFailure(TrialStatus.LAUNCH_ERROR, answer.text)

    def _lost(self, method: str) -> Exception:
        status = self._process.wait()
        if status < 0:
            cause = f"{method}: the process was ended by {signal.Signals(-status).name}"
            return WorkerFailure(TrialStatus.LAUNCH_ERROR, cause)
        return RuntimeError(f"{method}: the measuring process ended with status {status}")

    def kill(self) -> None:
        """End the child at once. May be called twice."""
        self._process.kill()
        self._process.wait()
