"""The measuring child: ``python -m tuner.worker_main FD`` serves one measurer over a pipe."""

from __future__ import annotations

import importlib
import sys
from multiprocessing.connection import Connection
from typing import Any

from search_spaces.errors import UserError
from templates.child import parent_link
from tuner.worker import Command, Fault, Refusal, Reply


def _serve(link: Connection) -> None:
    """Answer commands until the parent closes the pipe, or a fault makes this process useless."""
    factory, arguments = link.recv()
    module, _, name = factory.partition(":")
    create = getattr(importlib.import_module(module), name)
    measurer: Any = None
    while True:
        try:
            command = link.recv()
        except EOFError:
            return
        try:
            # Made under the first command, so that what goes wrong has someone to be told to.
            measurer = measurer or create(*arguments)
            answer: Reply | Refusal = Reply(_run(measurer, command))
        except UserError as error:
            answer = Refusal(str(error))
        except RuntimeError as error:
            link.send(Fault(f"{type(error).__name__}: {_first_line(error)}"))
            return
        link.send(answer)


def _run(measurer: Any, command: Command) -> Any:
    return getattr(measurer, command.method)(*command.arguments)


def _first_line(error: RuntimeError) -> str:
    """CUDA errors come with a page of advice on how to debug torch."""
    return str(error).partition("\n")[0]


if __name__ == "__main__":
    _serve(parent_link(int(sys.argv[1])))
